"""Reading a folder's images into one tensor, which is kept in the user's cache for the next run."""

import hashlib
import json
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import PIL
import torch
from torch import Tensor

from zoo.data.fetch import busy
from zoo.data.integrity import UNREADABLE, read_file
from zoo.data.preprocess import Preprocess
from zoo.errors import ZooError
from zoo.paths import cache_root

FORMAT = 2  # of the kept tensor: another number where the same files are to be read otherwise
HEADER = 100_000  # bytes of a kept file beside its tensor, at most


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


def read_images(files: Sequence[Path], root: Path, preprocess: Preprocess) -> Tensor:
    """All images, uint8 (N, H, W, C): from the tensor that a run before left, or read and left for the next.

    What was left is taken if the files have the same names, sizes and times of change, and the tensor the hash that was
    noted with it. It is read into memory as a whole, so that what happens to it afterwards changes nothing in a run.
    """
    stats = [(str(f.relative_to(root)), (s := f.stat()).st_size, s.st_mtime_ns) for f in files]
    key = hashlib.sha256(json.dumps([FORMAT, PIL.__version__, stats]).encode()).hexdigest()
    shape = len(files), preprocess.image_size, preprocess.image_size, preprocess.channels
    path = kept_file(root, preprocess)
    if (images := read_kept(path, key, shape)) is not None:
        return images
    with busy(f"reading {len(files):,} images of {root}, once"):
        images = decode(files, preprocess)
    keep(path, images, key)
    return images


def kept_file(root: Path, preprocess: Preprocess) -> Path:
    """Where the tensor of a folder's images is kept: in the user's cache, as the folder itself is the user's own."""
    folder = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    size = f"{preprocess.resize}-{preprocess.image_size}x{preprocess.channels}"
    return cache_root() / "image_folders" / folder / f"{size}.safetensors"


def read_kept(path: Path, key: str, shape: tuple[int, ...]) -> Tensor | None:
    """The tensor that a run before left for these files; None where there is none, or it was altered since."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = read_file(path, int(np.prod(shape)) + HEADER)
        # the library gives the metadata of a file alone, and the file may be another one by now
        noted = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        if noted["key"] != key:
            return None
        images = load(content)["images"]
        form = torch.uint8, shape, noted["sha256"]
        return images if form == (images.dtype, tuple(images.shape), sha256(images)) else None
    except (ZooError, SafetensorError, *UNREADABLE):
        return None


def sha256(images: Tensor) -> str:
    return hashlib.sha256(images.numpy().reshape(-1).data).hexdigest()


def keep(path: Path, images: Tensor, key: str) -> None:
    """Write a tensor for the next run, whole or not at all; where that fails, warn."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    part = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"images": images}, part, metadata={"key": key, "sha256": sha256(images)})
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            part.unlink()
        warnings.warn(f"{path} cannot be written ({error}), so the next run reads the images again", stacklevel=2)


def decode(files: Sequence[Path], preprocess: Preprocess) -> Tensor:
    """The images of the files, in as many threads as there are cores: decoding does not hold the interpreter's lock.

    Raises:
        ZooError: names the files that cannot be read.
    """
    size = preprocess.image_size
    images = torch.empty(len(files), size, size, preprocess.channels, dtype=torch.uint8)

    def put(i: int) -> str | None:
        try:
            images[i] = preprocess.read(files[i])[0]
        except ZooError as error:
            return str(error)
        return None

    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")  # Pillow's, of odd details in files that are read all the same
        complaints = [complaint for complaint in pool.map(put, range(len(files))) if complaint]
    if complaints:
        more = f" (and {len(complaints) - 1} more: {'; '.join(complaints[1:4])})" if len(complaints) > 1 else ""
        raise ZooError(f"{complaints[0]}; replace it, or take it out of the folder{more}")
    return images
