"""Reading files that may be damaged, huge or hostile: limits hold before anything is read, and what is hashed is used.

A file is read once, whole, and its digest is taken of the very bytes that go on to be decoded. So a file that is
overwritten, cut short or deleted afterwards changes nothing in a run that has begun.
"""

import gzip
import hashlib
import io
import lzma
import os
import pickle
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from zoo.errors import ZooError

MB = 10**6

# What decoders raise on bytes that are not theirs. MemoryError: a size in a header that nothing stands behind;
# SystemError: numpy's own mistake in some pickled dtypes.
UNREADABLE = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError,
    SystemError, TypeError, ValueError, lzma.LZMAError, pickle.UnpicklingError, tarfile.TarError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip


def read_file(path: Path, most: int, why: str = "of what is read here") -> bytes:
    """The content of a regular file of at most ``most`` bytes.

    Args:
        why: what the limit is, for the message.

    Raises:
        OSError: it cannot be read.
        ZooError: a pipe, a device or a folder, which could hang or never end; a file that is larger.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ZooError(f"{path} is not a regular file; give a file, not a folder, a pipe or a device")
    with open(path, "rb", opener=open_at_once) as file:
        status = os.fstat(file.fileno())
        size = status.st_size
        if not stat.S_ISREG(status.st_mode):  # it has taken the file's place
            raise ZooError(f"{path} is not a regular file any more; run again")
        if size > most:
            raise ZooError(f"{path} has {size / MB:,.1f} MB, more than the {most / MB:,.1f} MB {why}")
        return file.read(size)


def open_at_once(path: str, flags: int) -> int:
    """As ``os.open``, but without waiting for the other end of a pipe that has taken a file's place."""
    return os.open(path, flags | (os.O_NONBLOCK if os.name == "posix" else 0))


def digest(content: bytes, kind: str = "sha256") -> str:
    """The hexadecimal digest of bytes, "sha256" or "md5"."""
    return hashlib.new(kind, content, usedforsecurity=False).hexdigest()


def gunzip(content: bytes, most: int) -> bytes:
    """What gzipped bytes hold, at most ``most`` bytes of it: a few MB can unpack to thousands of times as many.

    Raises:
        ValueError: it is larger.
        OSError, EOFError, zlib.error: it is damaged.
    """
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        return at_most(file.read(most + 1), most)


def unxz(content: bytes, most: int) -> bytes:
    """What bytes compressed by xz hold, at most ``most`` bytes; ``ValueError``, ``lzma.LZMAError`` as ``gunzip``."""
    decoder = lzma.LZMADecompressor(memlimit=100 * MB)  # a header can ask for a dictionary of 4 GB
    unpacked = at_most(decoder.decompress(content, most + 1), most)
    if not decoder.eof:
        raise lzma.LZMAError("it ends too early")
    return unpacked


def unzip(content: bytes, names: dict[str, str], most: int) -> dict[str, bytes]:
    """Members of a zip archive by new names, ``{new: name in the archive}``, at most ``most`` bytes each.

    Raises:
        ValueError, KeyError, zipfile.BadZipFile, zlib.error: one is larger, missing or damaged.
    """
    unpacked: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for new, name in names.items():
            with archive.open(name) as member:  # what its header says of its size need not be true
                unpacked[new] = at_most(member.read(most + 1), most)
    return unpacked


def at_most(content: bytes, most: int) -> bytes:
    if len(content) > most:
        raise ValueError(f"it unpacks to more than {most / MB:,.1f} MB")
    return content


def regular_members(tar: tarfile.TarFile, most: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents of an archive's regular files. Links, devices, and names that lead out of it are left out.

    Raises:
        ValueError: a member of more than ``most`` bytes.
    """
    for member in tar:
        parts = Path(member.name).parts
        if not member.isreg() or Path(member.name).is_absolute() or ".." in parts or not parts:
            continue
        if member.size > most:
            raise ValueError(f"{member.name} in it has more than {most / MB:,.1f} MB")
        content = tar.extractfile(member)
        assert content is not None  # it is a regular file
        yield member.name, content.read()
