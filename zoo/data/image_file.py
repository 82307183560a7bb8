"""Opening image files from untrusted sources: known formats only, with limits that are checked before decoding.

A file is read as a whole before it is decoded. So a file that is truncated meanwhile causes an error and not a crash,
and the decoder gets bytes only: it knows no file name, opens no other file and starts no program.
"""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import RLock
from typing import BinaryIO

from PIL import Image

from zoo.config.files import open_at_once
from zoo.data.decoders import silence_decoders
from zoo.data.eight_bits import Unreadable
from zoo.errors import ZooError

# Pillow's names of the formats, and the suffixes of their files. Left out are EPS (Pillow runs Ghostscript for it),
# formats without a signature (TGA would accept any bytes), and formats that are hardly used for photographs.
FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
}
NAMES = "PNG, JPEG, GIF, BMP, TIFF, WebP and PPM"
MAX_BYTES = 500_000_000  # size of a file
MAX_PIXELS = 89_000_000  # pixels that are decoded; above this Pillow warns of decompression bombs
MAX_JPEG_PIXELS = 250_000_000  # pixels of a JPEG, which can be decoded at half its height and width
MAX_SIDE = 100_000  # pixels per side; the memory for scaling also depends on the longer side
LARGE = 16_000_000  # pixels; larger images are decoded one at a time, whatever the number of threads
MAX_READS = 300_000  # pieces in which a decoder reads a file; a PNG of 500 MB has some 250,000
MAX_SCANNED = 3_000_000_000  # pixels in all scans of a JPEG; a progressive one of 250 megapixels has some ten scans
SCAN = b"\xff\xda"  # marks the beginning of a scan of a JPEG; within a scan, 0xff is followed by 0
Source = str | Path | bytes | BinaryIO | Image.Image
one_large = RLock()
TURNS = {  # keys: EXIF's orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION = 0x0112


def readable_suffixes() -> set[str]:
    """The suffixes of the image files that can be read: ".jpg", ".png" …"""
    return {suffix for suffixes in FORMATS.values() for suffix in suffixes}


@contextmanager
def opened(source: Source, name: str | Path | None = None) -> Iterator[Image.Image]:
    """A context manager that decodes the first picture of an image file.

    Any exception inside the ``with`` block is reported as an error of this file. While a large image is open, no other
    large image is decoded.

    Args:
        source: a path, the content of a file, an open binary file, or a PIL image, which is not changed.
        name: the name of the image in error messages; None means its path, or "the image".

    Raises:
        ZooError: the file is missing, damaged, too large, not a regular file, or not an image in one of ``FORMATS``.
    """
    silence_decoders()
    with naming(name or (source if isinstance(source, (str, Path)) else "the image")):
        picture = source if isinstance(source, Image.Image) else identified(content_of(source))
        with one_large if picture.width * picture.height > LARGE else nullcontext():
            picture.load()
            yield picture


@contextmanager
def naming(name: str | Path) -> Iterator[None]:
    """Turn any exception in the ``with`` block into a ``ZooError`` of one line that begins with the image's name."""
    try:
        yield
    except ZooError:
        raise
    except Unreadable as error:
        raise ZooError(f"{name}: {error}") from None
    except FileNotFoundError:
        raise ZooError(f"{name}: no such file") from None
    except MemoryError:
        raise ZooError(f"{name}: there is not enough memory to read this image; scale it down first") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        raise ZooError(f"{name}: not an image that can be read ({reason or type(error).__name__})") from None


def image_content(path: Path) -> bytes:
    """The bytes of an image file, without looking at them.

    Raises:
        ZooError: the file is missing, empty, too large or not a regular file.
    """
    with naming(path):
        return content_of(path)


def content_of(source: str | Path | bytes | BinaryIO) -> bytes:
    """The bytes of an image file, given by its path, its bytes or an open file.

    A path to a pipe or a device is refused, because reading it may never end.
    """
    if isinstance(source, (str, Path)):
        if not stat.S_ISREG(os.stat(source).st_mode):
            kind = "a folder" if os.path.isdir(source) else "a pipe, a socket or a device"
            raise Unreadable(f"{kind}, not an image that can be read; give a file")
        with open(source, "rb", opener=open_at_once) as file:
            check_bytes(os.fstat(file.fileno()).st_size)  # before anything is read
            return content_of(file)
    content = source if isinstance(source, bytes) else source.read(MAX_BYTES + 1)
    check_bytes(len(content))
    if not content:
        raise Unreadable("not an image that can be read: the file is empty")
    return content


def check_bytes(n: int) -> None:
    if n > MAX_BYTES:
        raise Unreadable(f"a file of more than {MAX_BYTES / 1e6:.0f} MB, which is not read as an image; scale it down")


class Counted(io.BytesIO):
    """The content of a file, from which a decoder may read at most ``MAX_READS`` pieces.

    A file of a few MB can have a million empty chunks, over which Pillow loops in Python.
    """

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > MAX_READS:
            raise Unreadable(f"not an image that can be read: it consists of more than {MAX_READS:,} pieces")
        return super().read(size)


def identified(content: bytes) -> Image.Image:
    """Recognise the format of an image and check its size, without decoding it.

    It replaces ``Image.open``, whose size limit a program may have lifted, and which warns about large JPEGs that are
    accepted here.

    Raises:
        Unreadable: the format is not in ``FORMATS``, or the image exceeds a limit.
    """
    Image.init()
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is None or accept(content[:16]) is not True:
            continue
        picture: Image.Image = factory(Counted(content), "")
        width, height = picture.size
        if min(width, height) < 1:
            raise Unreadable("an image without pixels")
        if max(width, height) > MAX_SIDE:
            raise Unreadable(
                f"an image of {width:,}×{height:,} pixels, but at most {MAX_SIDE:,} per side are read; crop it"
            )
        jpeg = name == "JPEG"
        if width * height > (most := MAX_JPEG_PIXELS if jpeg else MAX_PIXELS):
            raise Unreadable(
                f"an image of {width * height / 1e6:,.0f} megapixels ({width:,}×{height:,}), but at most "
                f"{most / 1e6:.0f} are read{'' if jpeg else f' ({MAX_JPEG_PIXELS / 1e6:.0f} for JPEG)'}; scale it down"
            )
        if jpeg and (scans := content.count(SCAN)) * width * height > MAX_SCANNED:
            raise Unreadable(f"a JPEG of {scans:,} scans, which would take too long to read; save it again")
        if width * height > MAX_PIXELS:
            picture.draft(None, (max(1, width // 2), max(1, height // 2)))  # type: ignore[attr-defined]
        return picture
    raise Unreadable(f"not an image that can be read; these are: {NAMES}")


def orientation_of(picture: Image.Image) -> int:
    """The EXIF orientation of a picture, from 1 (upright) to 8; 1 if there is none."""
    try:
        orientation = picture.getexif().get(ORIENTATION)
    except Exception:  # the pixels may be good even if the EXIF data are damaged
        return 1
    return orientation if isinstance(orientation, int) else 1


def turned(picture: Image.Image, orientation: int) -> Image.Image:
    """The picture, turned upright according to its EXIF orientation."""
    return picture.transpose(TURNS[orientation]) if orientation in TURNS else picture
