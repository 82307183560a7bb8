"""Shipped weights that are not part of this installation: from a folder, from the user's cache, or downloaded there.

Imports no torch.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.config.files import MB
from zoo.data.fetch import CIFAR10_SMALL
from zoo.errors import ZooError
from zoo.paths import EMBEDDED, cache_root
from zoo.pretrained.card import Card, shipped
from zoo.remote.address import fetch_released, place
from zoo.remote.download import Unavailable, has_digest
from zoo.terminal import say

LARGEST = 100 * MB  # the most that is downloaded if a card does not say the size; shipped weights have up to 15 MB


def weights_file(name: str, card: Card | None = None) -> Path:
    """The safetensors file of shipped weights, which is downloaded on first use.

    It is the first of these that exists: the file in this installation or clone, the one in the folder
    ``$ZOO_WEIGHTS``, the one in the user's cache. Whoever reads the file compares its sha256 with the card.

    Raises:
        ZooError: the file is not on this machine and cannot be fetched; the message says how to provide it.
    """
    own = shipped()[name].with_suffix(".safetensors")
    if own.exists():
        return own
    card = card or Card.read(shipped()[name])
    source, file = place(), own.name
    if isinstance(source, Path) and (source / file).is_file():
        return source / file
    if not re.fullmatch("[0-9a-f]{64}", card.sha256):
        raise ZooError(f"{name}: its card is damaged (it has no sha256 of the weights): install the zoo again")
    path = cache_root() / "weights" / card.sha256[:16] / file  # other weights of this name do not get in the way
    digest = f"sha256:{card.sha256}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(path):
            if path.exists() and not has_digest(path, digest):
                say(f"{path} was damaged and is removed; fetching it again")
                path.unlink()
            if not path.exists():
                fetch_released(file, path, digest, card.size or LARGEST)
    except Unavailable as error:
        raise ZooError(
            f"{name}: its weights{f' ({card.size / MB:.1f} MB)' if card.size else ''} could not be fetched ({error}). "
            f"Set ZOO_WEIGHTS to a folder or an address that has {file}; a clone of the repository has all of them"
        ) from None
    except OSError as error:
        raise ZooError(
            f"{name}: its weights cannot be stored in {path.parent}: {error.strerror or error}; name another cache "
            f"folder, as XDG_CACHE_HOME=FOLDER"
        ) from None
    return path


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Let other processes of this machine wait that want the same file."""
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=1)
    except Timeout:
        say(f"waiting for another process that fetches {path.name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def lay_out(folder: Path) -> list[Path]:
    """Copy all files of a release into a folder, which ``$ZOO_WEIGHTS`` may name or any server may serve: the shipped
    weights, their cards, and cifar10_small's files.

    Returns:
        The files, and ``SHA256SUMS``, with which ``sha256sum --check`` verifies them.

    Raises:
        ZooError: weights cannot be fetched; the folder cannot be written.
    """
    import hashlib

    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = [copied(file, folder) for name, card in shipped().items() for file in (weights_file(name), card)]
        for file in CIFAR10_SMALL:
            target = folder / f"cifar10_small.{file}"
            if (own := EMBEDDED / "cifar10_small" / file).exists():
                shutil.copyfile(own, target)
            else:
                fetch_released(target.name, target, *CIFAR10_SMALL[file])
            files.append(target)
        sums = folder / "SHA256SUMS"
        lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(files)]
        sums.write_text("".join(lines), encoding="utf-8")
    except Unavailable as error:
        raise ZooError(f"cifar10_small could not be fetched ({error})") from None
    except OSError as error:
        raise ZooError(f"{error.filename or folder} cannot be written: {error.strerror or error}") from None
    return [*files, sums]


def copied(file: Path, folder: Path) -> Path:
    """A copy of a file in a folder, which other programs may read while it is replaced."""
    target, part = folder / file.name, folder / f".{file.name}.part"
    if not (target.exists() and target.samefile(file)):
        shutil.copyfile(file, part)
        os.replace(part, target)
    return target
