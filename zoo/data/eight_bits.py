"""Converting pictures to 8 bits per channel: from 16 or 32 bits, floating-point numbers, palettes and transparency."""

import numpy as np
from PIL import Image, TiffImagePlugin

STRIP = 4_000_000  # number of pixels converted at once, which limits the memory needed

Box = tuple[int, int, int, int]


class Unreadable(Exception):
    """Says why an image cannot be read; ``zoo.data.image_file.opened`` puts the file's name before the message."""


def plain(picture: Image.Image, mode: str, box: Box) -> Image.Image:
    """Convert a part of a picture to 8 bits per channel; transparent pixels become white.

    Args:
        picture: a picture of any mode.
        mode: "L" for grey or "RGB" for colour.
        box: left, top, right and bottom of the part, in pixels.

    Raises:
        Unreadable: it is not clear which value of the pixels stands for white.
    """
    whole = box == (0, 0, *picture.size)
    if picture.mode == mode and whole and not picture.has_transparency_data and not has_sign(picture):
        return picture
    white = white_of(picture) if picture.mode.startswith(("I", "F")) or has_sign(picture) else None
    inverted = white is not None and tiff_tag(picture, TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0

    def part(top: int, bottom: int) -> Image.Image:
        own = (box[0], top, box[2], bottom)
        strip = picture if own == (0, 0, *picture.size) else picture.crop(own)
        if white is not None:
            return eight_bits(strip, white, inverted).convert(mode)
        return opaque(strip).convert(mode)

    width, height = box[2] - box[0], box[3] - box[1]
    rows = max(1, STRIP // width)
    if rows >= height:
        return part(box[1], box[3])
    result = Image.new(mode, (width, height))
    for top in range(box[1], box[3], rows):
        result.paste(part(top, min(top + rows, box[3])), (0, top - box[1]))
    return result


def opaque(picture: Image.Image) -> Image.Image:
    """Put a picture of 8 bits per channel on a white background, if it has transparency."""
    if picture.mode in ("LAB", "La"):  # Pillow converts these to no other mode
        picture = picture.convert("RGB" if picture.mode == "LAB" else "LA")
    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)


def visible(picture: Image.Image) -> Image.Image:
    """A picture with white ink on a transparent ground is put on black; others are returned unchanged."""
    if not picture.has_transparency_data:
        return picture
    sides = [min(side, 256) for side in picture.size]
    values = np.asarray(picture.resize((sides[0], sides[1]), Image.Resampling.NEAREST).convert("RGBA"), float)
    opaque = values[..., 3] / 255
    brightness = (values[..., :3].mean(-1) * opaque).sum() / max(opaque.sum(), 1e-9)
    if brightness < 170 or opaque.mean() > 0.5:
        return picture
    small = picture.convert("RGBA")
    small.thumbnail((2000, 2000))
    dark = Image.alpha_composite(Image.new("RGBA", small.size, "black"), small).convert("RGB")
    dark.info |= {key: value for key, value in picture.info.items() if key == "exif"}
    return dark


def eight_bits(picture: Image.Image, white: float, inverted: bool) -> Image.Image:
    """Convert a picture with one channel of more than 8 bits, or with signed 8 bits, to mode "L".

    Args:
        picture: the picture.
        white: the value that stands for white.
        inverted: whether 0 stands for white instead.
    """
    values = np.asarray(picture)
    floating = picture.mode == "F"
    scaled = np.rint(values * (255 / white)) if floating else values.astype(np.int64) * 255 // int(white)
    scaled = scaled.clip(0, 255).astype(np.uint8)
    if inverted:
        scaled = 255 - scaled
    if isinstance(clear := picture.info.get("transparency"), int):
        scaled[values == clear] = 255
    return Image.fromarray(scaled)


def white_of(picture: Image.Image) -> float:
    """The value that stands for white in a picture with one channel.

    The format determines it for 16 bits (65,535), 12 bits (4,095), signed 16 bits (32,767) and signed 8 bits (127). For
    numbers of 32 bits it is the smallest of 255 and 65,535 (for floating-point numbers also 1) that no pixel exceeds.

    Raises:
        Unreadable: pixels are negative, too large, NaN or infinite.
    """
    if has_sign(picture):
        if picture.getextrema()[1] > 127:  # type: ignore[operator]  getextrema gives two numbers for one channel
            raise Unreadable("its pixels are of 8 bits with a sign, and some are below 0; save it without a sign")
        return 127
    bits = tiff_tag(picture, TiffImagePlugin.BITSPERSAMPLE)
    if picture.mode.startswith("I;16"):
        return 4095 if bits == 12 else 65_535
    if picture.format == "PPM" and picture.mode == "I":
        return 65_535
    low, high = value_range(picture)
    if not np.isfinite([low, high]).all():
        raise Unreadable("an image with pixels that are NaN or infinite; save it with 8 or 16 bits per channel")
    if picture.mode == "I" and bits == 16 and low >= 0:
        return 32_767
    for white in (1, 255, 65_535) if picture.mode == "F" else (255, 65_535):
        if low >= 0 and high <= white:
            return white
    kind = "floating-point numbers" if picture.mode == "F" else "whole numbers"
    understood = "0 to 1, 0 to 255 or 0 to 65,535" if picture.mode == "F" else "0 to 255 or 0 to 65,535"
    raise Unreadable(
        f"its pixels are {kind} from {low:,.6g} to {high:,.6g}, but must be {understood}; save it with 8 or "
        f"16 bits per channel"
    )


def value_range(picture: Image.Image) -> tuple[float, float]:
    """The smallest and the largest pixel value; NaN if any pixel is NaN."""
    rows = max(1, STRIP // picture.width)
    strips = (
        picture.crop((0, y, picture.width, min(y + rows, picture.height))) for y in range(0, picture.height, rows)
    )
    ranges = [(values.min(), values.max()) for values in map(np.asarray, strips)]
    return float(np.min([low for low, _ in ranges])), float(np.max([high for _, high in ranges]))


def has_sign(picture: Image.Image) -> bool:
    """Whether a picture has signed 8-bit pixels, which Pillow decodes as if they had no sign."""
    return picture.mode == "L" and tiff_tag(picture, TiffImagePlugin.SAMPLEFORMAT) == 2


def tiff_tag(picture: Image.Image, tag: int) -> int | None:
    """The number in a tag of a TIFF file; None for other files and if the tag is missing."""
    value = picture.tag_v2.get(tag) if isinstance(picture, TiffImagePlugin.TiffImageFile) else None
    first = value[0] if isinstance(value, tuple) and value else value
    return first if isinstance(first, int) else None
