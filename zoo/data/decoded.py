"""Reading a folder's images into one tensor, which is kept in the user's cache for the next run."""

import hashlib
import json
import os
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import numpy as np
import PIL
import torch
from torch import Tensor

from zoo.data.fetch import busy
from zoo.data.image_file import image_content
from zoo.data.integrity import UNREADABLE, read_file
from zoo.data.preprocess import Preprocess
from zoo.errors import ZooError
from zoo.paths import cache_root

FORMAT = 3  # of the kept tensor: another number where the same files are to be read otherwise
HEADER = 100_000  # bytes of a kept file beside its tensors, at most
DIGEST = 8  # bytes of an image file's sha256 that are kept, to notice another content
DEAD = 3600  # seconds after which a file that nobody wrote to is one that a killed run has left


def check_memory(n: int, preprocess: Preprocess, root: Path) -> None:
    """Raise a ``ZooError`` where n images would take over half of the memory: they stand in it twice when split."""
    size, channels, memory = preprocess.image_size, preprocess.channels, total_memory()
    needed = n * size * size * channels
    if memory and needed > memory / 2:
        raise ZooError(
            f"{root}: {n:,} images of {size}×{size}×{channels} take {needed / 1e9:,.1f} GB, more than half of this "
            f"machine's memory ({memory / 1e9:,.1f} GB); take a smaller data.image_size, or fewer images"
        )


def total_memory() -> int:
    """Bytes of this machine's memory; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0


def read_images(files: Sequence[Path], root: Path, preprocess: Preprocess) -> tuple[Tensor, Tensor]:
    """All images, uint8 (N, H, W, C), and of each file's content the digest's beginning, uint8 (N, ``DIGEST``).

    They are what a run before left, or read and left for the next. What was left is taken if the files have the same
    names, sizes and times of change, and the tensors the hash that was noted with them. It is read into memory as a
    whole, so that what happens to it afterwards changes nothing in a run.

    Raises:
        ZooError: a file that is gone meanwhile, or is no image.
    """
    stats = [(str(file.relative_to(root)), *size_and_time(file)) for file in files]
    key = hashlib.sha256(json.dumps([FORMAT, PIL.__version__, stats]).encode()).hexdigest()
    shape = len(files), preprocess.image_size, preprocess.image_size, preprocess.channels
    path = kept_file(root, preprocess)
    if (kept := read_kept(path, key, shape)) is not None:
        return kept
    with busy(f"reading {len(files):,} images of {root}, once"):
        images, digests = decode(files, preprocess)
    keep(path, images, digests, key)
    return images, digests


def size_and_time(file: Path) -> tuple[int, int]:
    """A file's size and time of change."""
    try:
        status = file.stat()
    except FileNotFoundError:
        raise ZooError(
            f"{file} is gone since its folder was listed; run again when the folder stays as it is"
        ) from None
    except OSError as error:
        raise ZooError(f"{file} cannot be read: {error.strerror}; make it readable, or take it out") from None
    return status.st_size, status.st_mtime_ns


def kept_file(root: Path, preprocess: Preprocess) -> Path:
    """Where the tensor of a folder's images is kept: in the user's cache, as the folder itself is the user's own."""
    folder = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    size = f"{preprocess.resize}-{preprocess.image_size}x{preprocess.channels}"
    return cache_root() / "image_folders" / folder / f"{size}.safetensors"


def read_kept(path: Path, key: str, shape: tuple[int, ...]) -> tuple[Tensor, Tensor] | None:
    """What a run before left for these files; None where there is nothing, or it was altered since."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = read_file(path, int(np.prod(shape)) + shape[0] * DIGEST + HEADER)
        # the library gives the metadata of a file alone, and the file may be another one by now
        noted = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        if noted["key"] != key:
            return None
        tensors = load(content)
        images, digests = tensors["images"], tensors["digests"]
        forms = [(tensor.dtype, tuple(tensor.shape)) for tensor in (images, digests)]
        whole = forms == [(torch.uint8, shape), (torch.uint8, (shape[0], DIGEST))]
        return (images, digests) if whole and noted["sha256"] == sha256(images, digests) else None
    except (ZooError, SafetensorError, *UNREADABLE):
        return None


def beginning(content: bytes) -> bytes:
    """The first bytes of a file's sha256."""
    return hashlib.sha256(content).digest()[:DIGEST]


def sha256(*tensors: Tensor) -> str:
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.numpy().reshape(-1).data)
    return found.hexdigest()


def keep(path: Path, images: Tensor, digests: Tensor, key: str) -> None:
    """Write tensors for the next run, whole or not at all; where that fails, warn.

    Other processes, threads and hosts may write the same at the same time, so the file that is written to has a name of
    its own; those of runs that were killed are removed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    part = path.with_name(f".{path.name}-{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{path.name}-*"):
            with suppress(OSError):
                if left.stat().st_mtime < time.time() - DEAD:
                    left.unlink()
        noted = {"key": key, "sha256": sha256(images, digests)}
        save_file({"images": images, "digests": digests}, part, metadata=noted)
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            part.unlink()
        warnings.warn(f"{path} cannot be written ({error}), so the next run reads the images again", stacklevel=2)


def decode(files: Sequence[Path], preprocess: Preprocess) -> tuple[Tensor, Tensor]:
    """The images of the files and their digests, as ``read_images`` gives them.

    In as many threads as there are cores: decoding does not hold the interpreter's lock.

    Raises:
        ZooError: names the files that cannot be read.
    """
    size = preprocess.image_size
    images = torch.empty(len(files), size, size, preprocess.channels, dtype=torch.uint8)
    digests = torch.empty(len(files), DIGEST, dtype=torch.uint8)

    def put(i: int) -> str | None:
        try:
            content = image_content(files[i])  # the digest is of the very bytes that are decoded
            digests[i] = torch.frombuffer(bytearray(beginning(content)), dtype=torch.uint8)
            images[i] = preprocess.read(content, name=files[i])[0]
        except ZooError as error:
            return str(error)
        return None

    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")  # Pillow's, of odd details in files that are read all the same
        complaints = [complaint for complaint in pool.map(put, range(len(files))) if complaint]
    if complaints:
        more = f" (and {len(complaints) - 1} more: {'; '.join(complaints[1:4])})" if len(complaints) > 1 else ""
        raise ZooError(f"{complaints[0]}; replace it, or take it out of the folder{more}")
    return images, digests
