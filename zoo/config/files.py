"""Reading files that may be huge, or no files at all: each is read once as a whole, and its size is checked first."""

import os
import stat
from pathlib import Path

from zoo.errors import ZooError

MB = 10**6


def read_file(path: Path, most: int, why: str = "allowed for this kind of file") -> bytes:
    """The content of a regular file of at most ``most`` bytes.

    Args:
        why: what the limit stands for, to complete the message.

    Raises:
        OSError: the file cannot be read.
        ZooError: it is larger, or it is a folder, or a pipe or a device, from which reading may never end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ZooError(f"{path} is not a regular file; give a file, not a folder, a pipe or a device")
    with open(path, "rb", opener=open_at_once) as file:
        status = os.fstat(file.fileno())
        size = status.st_size
        if not stat.S_ISREG(status.st_mode):  # the file was replaced in between
            raise ZooError(f"{path} is not a regular file any more; run again")
        if size > most:
            raise ZooError(f"{path} has {size / MB:,.1f} MB, more than the {most / MB:,.1f} MB {why}")
        return file.read(size)


def open_at_once(path: str, flags: int) -> int:
    """``os.open`` without waiting for a writer, in case the file has been replaced by a pipe."""
    return os.open(path, flags | (os.O_NONBLOCK if os.name == "posix" else 0))
