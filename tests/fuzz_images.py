"""Mutated images of every format: ``python -m tests.fuzz_images N FORMAT …``; exit code 1 where one is not either read
or refused in one line, hangs, or takes memory.

Seeds are fixed: case i of a format is always the same file, ``mutated(FORMAT, i)``.
"""

import io
import resource
import signal
import struct
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests.fuzz import Hang, bytes_mutated, hang, png_mutated
from zoo.data.preprocess import Preprocess
from zoo.errors import ZooError

MEMORY = (
    2500 * 10**6
)  # bytes of RAM, at most: what the largest pictures that are read take, of which there are many here
PATIENCE = 60  # seconds for one file, on a busy machine
HEAD = 128  # bytes that a file's sizes and kinds stand in
PREPROCESSES = (Preprocess(8, [0.5], [0.5]), Preprocess(16, [0.5] * 3, [0.5] * 3, resize=20))


def pictures() -> dict[str, Image.Image]:
    """One picture in several modes."""
    values = np.random.default_rng(0).integers(0, 256, (24, 31, 4), dtype=np.uint8)
    values[8:16] = (200, 40, 40, 90)  # something to compress
    colour = Image.fromarray(values[..., :3])
    grey = Image.fromarray(values[..., 0])
    deep = Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    floating = Image.fromarray(values[..., 0].astype(np.float32) / 255)
    return {
        "RGB": colour, "RGBA": Image.fromarray(values), "L": grey, "P": colour.quantize(20), "1": grey.convert("1"),
        "CMYK": colour.convert("CMYK"), "I;16": deep, "F": floating, "LA": Image.fromarray(values).convert("LA"),
    }  # fmt: skip


# of each format, the modes and options of good files, from which a case takes one
GOOD: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "PNG": [("RGB", {}), ("RGBA", {}), ("L", {}), ("P", {"transparency": 3}), ("1", {}), ("I;16", {}), ("LA", {})],
    "JPEG": [("RGB", {}), ("L", {}), ("CMYK", {}), ("RGB", {"progressive": True}), ("RGB", {"quality": 20})],
    "GIF": [("P", {}), ("P", {"transparency": 3}), ("RGB", {"save_all": True}), ("L", {"interlace": 1})],
    "BMP": [("RGB", {}), ("RGBA", {}), ("L", {}), ("P", {}), ("1", {})],
    "TIFF": [
        ("RGB", {}), ("RGB", {"compression": "tiff_lzw"}), ("RGBA", {"compression": "tiff_adobe_deflate"}),
        ("RGB", {"compression": "jpeg"}), ("1", {"compression": "group4"}), ("I;16", {}), ("F", {}), ("CMYK", {}),
        ("L", {"compression": "packbits"}), ("P", {}), ("RGB", {"save_all": True}),
    ],
    "WEBP": [("RGB", {}), ("RGBA", {"lossless": True}), ("RGBA", {}), ("RGB", {"save_all": True})],
    "PPM": [("RGB", {}), ("L", {}), ("1", {}), ("I;16", {}), ("F", {})],
}  # fmt: skip


def good(form: str) -> list[bytes]:
    """Files of a format as Pillow writes them, half of them with EXIF data that turn them."""
    exif = Image.Exif()
    exif[0x0112] = 6
    found: list[bytes] = []
    for i, (mode, options) in enumerate(GOOD[form]):
        file, picture = io.BytesIO(), pictures()[mode]
        more: dict[str, Any] = {"append_images": [pictures()["L"]]} if "save_all" in options else {}
        if form in ("PNG", "JPEG", "TIFF", "WEBP") and i % 2:
            more["exif"] = exif
        picture.save(file, form, **options, **more)
        found.append(file.getvalue())
    return found


def sizes_mutated(content: bytes, random: Random) -> bytes:
    """Numbers of 2 or 4 bytes among the first ones, or anywhere, become large, small or odd."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(min(len(data), random.choice((HEAD, len(data)))))
        number = random.choice((0, 1, 2, 7, 255, 256, 4096, 9000, 30_000, 65_535, 2**31 - 1, 2**31, 2**32 - 1))
        kind = random.choice(("<H", ">H", "<I", ">I"))
        packed = struct.pack(kind, number & (0xFFFF if kind[1] == "H" else 0xFFFFFFFF))
        data[at : at + len(packed)] = packed
    return bytes(data)


def spliced(content: bytes, random: Random) -> bytes:
    """The beginning of one file, and the end of another, of any format."""
    other = random.choice(good(random.choice(list(GOOD))))
    return content[: random.randrange(len(content))] + other[random.randrange(len(other)) :]


def mutated(form: str, i: int, contents: list[bytes] | None = None) -> bytes:
    """Case i of a format."""
    random = Random(f"{form} {i}")
    more: list[Callable[[bytes, Random], bytes]] = [png_mutated, png_mutated, png_mutated] if form == "PNG" else []
    mutate = random.choice([bytes_mutated, bytes_mutated, sizes_mutated, sizes_mutated, spliced, *more])
    return mutate(random.choice(good(form) if contents is None else contents), random)


def try_case(content: bytes) -> str:
    """What became of a file: "read", "refused", or what is wrong."""
    outcome = "read"
    for preprocess in PREPROCESSES:
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        try:
            pixels = preprocess.read(content)
        except ZooError as error:
            outcome = "refused"
            if "\n" in str(error) or len(str(error)) > 1000:
                return f"not one short line: {error!s:.300}"
        except (Exception, Hang) as error:
            return f"{type(error).__name__}: {error!s:.300}"
        else:
            size = preprocess.image_size
            if pixels.dtype != torch.uint8 or pixels.shape != (1, size, size, preprocess.channels):
                return f"{pixels.dtype} {tuple(pixels.shape)}"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return outcome


def main(n: int, forms: list[str]) -> int:
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, hang)
    bad = 0
    for form in forms:
        contents, counts, longest = good(form), Counter[str](), 0.0
        assert {try_case(content) for content in contents} == {"read"}
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        for i in range(n):
            start = time.monotonic()
            outcome = try_case(mutated(form, i, contents))
            longest = max(longest, time.monotonic() - start)
            counts[outcome if outcome in ("read", "refused") else "bad"] += 1
            if outcome not in ("read", "refused"):
                print(f"{form} {i}: {outcome}", file=sys.stderr)
        taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        bad += counts["bad"] + (taken > MEMORY)
        print(
            f"{form}: {n} files, {counts['read']} read, {counts['refused']} refused, {counts['bad']} bad, "
            f"{taken / 10**6:.0f} MB, at most {longest:.1f} s",
            flush=True,
        )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:] or list(GOOD)))
