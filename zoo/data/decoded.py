"""Reading the images of a folder into one tensor, which is stored in the user's cache for the next run."""

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

from zoo.config.files import read_file
from zoo.console import busy
from zoo.data.image_file import image_content
from zoo.data.integrity import UNREADABLE
from zoo.data.preprocess import Preprocess
from zoo.errors import ZooError
from zoo.paths import cache_root

FORMAT = 3  # version of the cached tensor: increase it when the same files are to be read differently
HEADER = 100_000  # most bytes of a cached file besides its tensors
DIGEST = 8  # stored bytes of an image file's sha256, from which a changed content is noticed
DEAD = 3600  # seconds without a write after which a temporary file is taken for one that a killed run has left


def check_memory(n: int, preprocess: Preprocess, root: Path) -> None:
    """Raise a ``ZooError`` if n images would take more than half of the memory: splitting holds them twice."""
    size, channels, memory = preprocess.image_size, preprocess.channels, total_memory()
    needed = n * size * size * channels
    if memory and needed > memory / 2:
        raise ZooError(
            f"{root}: {n:,} images of {size}×{size}×{channels} take {needed / 1e9:,.1f} GB, more than half of this "
            f"machine's memory ({memory / 1e9:,.1f} GB); take a smaller data.image_size, or fewer images"
        )


def total_memory() -> int:
    """The size of this machine's memory in bytes; 0 if the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0


def read_images(files: Sequence[Path], root: Path, preprocess: Preprocess) -> tuple[Tensor, Tensor]:
    """All images, uint8 (N, H, W, C), and the first bytes of each file's sha256, uint8 (N, ``DIGEST``).

    They come from the cache, or are decoded and stored in the cache for the next run. The cache is used if the files'
    names, sizes and modification times are unchanged and the tensors have the hash stored with them. It is read into
    memory as a whole, so that later changes of the cache do not affect a run.

    Raises:
        ZooError: a file has been removed meanwhile, or is not an image.
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
    """A file's size in bytes and modification time in nanoseconds."""
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
    """The cache file for the tensor of a folder's images; nothing is written to the user's folder itself."""
    folder = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    size = f"{preprocess.resize}-{preprocess.image_size}x{preprocess.channels}"
    return cache_root() / "image_folders" / folder / f"{size}.safetensors"


def read_kept(path: Path, key: str, shape: tuple[int, ...]) -> tuple[Tensor, Tensor] | None:
    """The cached images and digests for these files; None if there are none or the cache was altered."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = read_file(path, int(np.prod(shape)) + shape[0] * DIGEST + HEADER)
        # parsed here, as safetensors reads metadata only from a file, which may have been replaced by now
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
    """Write tensors to the cache by renaming a complete temporary file; if that fails, only warn.

    Other processes, threads and machines may write the same at the same time, so the temporary file has a unique name;
    temporary files of killed runs are removed.
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
    """Decode image files to the images and digests that ``read_images`` returns.

    One thread per core is used, as decoding releases the global interpreter lock.

    Raises:
        ZooError: files cannot be read; the message names the first ones.
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
        warnings.simplefilter("ignore")  # Pillow's, about odd details in files that it can read
        complaints = [complaint for complaint in pool.map(put, range(len(files))) if complaint]
    if complaints:
        more = f" (and {len(complaints) - 1} more: {'; '.join(complaints[1:4])})" if len(complaints) > 1 else ""
        raise ZooError(f"{complaints[0]}; replace it, or take it out of the folder{more}")
    return images, digests
