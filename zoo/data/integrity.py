"""Unpacking bytes that may be damaged, huge or malicious, and their digests: limits are checked first.

The digest is computed from the very bytes that are decoded afterwards. Therefore a file that is later overwritten,
truncated or deleted does not affect a run that has begun.
"""

import gzip
import hashlib
import io
import lzma
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from zoo.config.files import MB

# The exceptions that decoders raise for invalid bytes. MemoryError: a header states a size that the file does not have;
# SystemError: a bug of numpy with some pickled dtypes.
UNREADABLE = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError,
    SystemError, TypeError, ValueError, lzma.LZMAError, pickle.UnpicklingError, tarfile.TarError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip


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
