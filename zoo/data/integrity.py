"""Reading files that may be damaged, huge or malicious: limits are checked first, and the bytes hashed are those used.

A file is read once as a whole, and its digest is computed from the very bytes that are decoded afterwards. Therefore a
file that is later overwritten, truncated or deleted does not affect a run that has begun.
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

# The exceptions that decoders raise for invalid bytes. MemoryError: a header states a size that the file does not have;
# SystemError: a bug of numpy with some pickled dtypes.
UNREADABLE = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError,
    SystemError, TypeError, ValueError, lzma.LZMAError, pickle.UnpicklingError, tarfile.TarError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip


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


def digest(content: bytes, kind: str = "sha256") -> str:
    """The hexadecimal digest of bytes, "sha256" or "md5"."""
    return hashlib.new(kind, content, usedforsecurity=False).hexdigest()


def gunzip(content: bytes, most: int) -> bytes:
    """Decompress gzipped bytes to at most ``most`` bytes, since a few MB can unpack to a thousand times as many.

    Raises:
        ValueError: the content is larger.
        OSError, EOFError, zlib.error: the bytes are damaged.
    """
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        return at_most(file.read(most + 1), most)


def unxz(content: bytes, most: int) -> bytes:
    """Decompress bytes in xz format to at most ``most`` bytes.

    Raises:
        ValueError: the content is larger.
        lzma.LZMAError: the bytes are damaged.
    """
    decoder = lzma.LZMADecompressor(memlimit=100 * MB)  # a header can ask for a dictionary of 4 GB
    unpacked = at_most(decoder.decompress(content, most + 1), most)
    if not decoder.eof:
        raise lzma.LZMAError("it ends too early")
    return unpacked


def unzip(content: bytes, names: dict[str, str], most: int) -> dict[str, bytes]:
    """Extract members of a zip archive under new names, ``{new: name in the archive}``, at most ``most`` bytes each.

    Raises:
        ValueError, KeyError, zipfile.BadZipFile, zlib.error: a member is larger, missing or damaged.
    """
    unpacked: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for new, name in names.items():
            with archive.open(name) as member:  # the size in its header may be wrong
                unpacked[new] = at_most(member.read(most + 1), most)
    return unpacked


def at_most(content: bytes, most: int) -> bytes:
    if len(content) > most:
        raise ValueError(f"it unpacks to more than {most / MB:,.1f} MB")
    return content


def regular_members(tar: tarfile.TarFile, most: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the regular files in an archive. Links, devices and names that lead out of the archive's
    folder are skipped.

    Raises:
        ValueError: a member has more than ``most`` bytes.
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
