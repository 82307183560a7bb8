"""Checks of a weights file before it is read, and of its tensors before they are used."""

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.config.files import MB
from zoo.data.decoded import total_memory
from zoo.data.integrity import UNREADABLE
from zoo.errors import ZooError
from zoo.pretrained.transfer import kind_of


def first_byte(path: Path) -> bytes:
    """The first byte of a regular file.

    Raises:
        OSError: the file cannot be read.
        ZooError: it is a folder, a pipe or a device, which could block for ever.
    """
    if path.exists() and not path.is_file():
        raise ZooError(f"{path} is not a regular file; give a file, not a folder, a pipe or a device")
    with path.open("rb") as file:
        return file.read(1)


def check_file(path: Path, zipped: bool) -> None:
    """Raise a ``ZooError`` if a file of ``torch.save`` is larger than the memory, or unpacks to more than its size.

    A zip that Python cannot read is refused too, since torch's own reader might accept it.
    """
    size, memory = path.stat().st_size, total_memory()
    if memory and size > memory:
        raise ZooError(f"{path} has {size / 1e9:,.1f} GB, more than this machine's memory ({memory / 1e9:,.1f} GB)")
    if zipped and packed(path, size):
        raise ZooError(f"{path} is compressed, or claims to hold more than it has; torch.save does not compress files")


def packed(path: Path, size: int) -> bool:
    """Whether a zip has compressed records, or claims more bytes than the file has: 5 MB can unpack to 5 GB."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except UNREADABLE:
        raise ZooError(f"{path} is not a checkpoint, or it is damaged") from None
    return any(r.compress_type != zipfile.ZIP_STORED for r in records) or sum(r.file_size for r in records) > size


def check_dense(weights: dict[str, Tensor], path: Path) -> None:
    """Raise a ``ZooError`` if a tensor is not dense, as those of the zoo's models are."""
    for name, tensor in weights.items():
        if (kind := kind_of(tensor)) != "dense":
            raise ZooError(f"{path}: {name} is a tensor of kind {kind}; give weights as dense tensors")


def check_sizes(content: Any, path: Path) -> None:
    """Raise a ``ZooError`` if the tensors in a file's content are much larger than the file.

    A tensor with a stride of 0 repeats one stored number, say 10^11 times, and takes no memory until it is copied.
    Tensors that rightly share values, such as tied weights and averages, take a few times the file's size at most.

    Args:
        content: plain containers that have passed ``zoo.config.plain.check_bounded``.
    """
    size = path.stat().st_size
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors_in(content)) > 10 * size + 100 * MB:
        raise ZooError(f"{path} claims to hold more than it has: its tensors are many times larger than the file")


def tensors_in(content: Any) -> Iterator[Tensor]:
    """All dense tensors in nested plain containers."""
    rest = [content]
    while rest:
        node = rest.pop()
        if isinstance(node, Mapping):
            rest.extend(node.values())
        elif isinstance(node, (list, tuple, set, frozenset)):
            rest.extend(node)
        elif isinstance(node, Tensor) and node.layout == torch.strided and not node.is_nested:
            yield node
