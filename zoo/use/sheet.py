"""A picture that shows what a classifier was given and what it saw (``zoo predict --show``)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zoo.data.preprocess import Seen
from zoo.errors import ZooError
from zoo.terminal import clean

SIDE = 160  # pixels of each picture's longer side
TEXT = 320  # pixels of the words beside them
GAP = 8
COLUMNS = 2  # pairs in a row, if there are more than ``ROWS``
ROWS = 8
MOST = 400  # images on a sheet; of more images the first ones are shown


def check_picture_file(path: Path) -> None:
    """Raise a ``ZooError`` if no picture can be written under this name, before anything is computed for it."""
    if path.suffix.lower() not in Image.registered_extensions():
        raise ZooError(f"--show {path}: not the name of a picture; give one that ends in .png or .jpg")
    if path.is_dir():
        raise ZooError(f"--show {path}: this is a folder; give the name of a picture file")


def save_sheet(seen: Sequence[Seen], results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a sheet: for each image, what was given on the left, and what the model saw in the middle, with the name of
    the file, the most probable class and its probability, and the warnings on the right.

    Raises:
        ZooError: the file cannot be written.
    """
    shown = list(zip(seen, results, strict=True))[:MOST]
    columns = COLUMNS if len(shown) > ROWS else 1
    rows = -(-len(shown) // columns)
    cell = (2 * SIDE + TEXT + 4 * GAP, SIDE + 2 * GAP)
    sheet = Image.new("RGB", (columns * cell[0], rows * cell[1]), "white")
    for i, (image, result) in enumerate(shown):
        left, top = i % columns * cell[0], i // columns * cell[1]
        for place, picture in enumerate((image.given, picture_seen(image))):
            fitted = scaled(picture)
            at = left + GAP + place * (SIDE + GAP) + (SIDE - fitted.width) // 2, top + GAP + (SIDE - fitted.height) // 2
            sheet.paste(fitted, at)
        words(ImageDraw.Draw(sheet), (left + 2 * SIDE + 3 * GAP, top + GAP), result)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path)
    except (OSError, ValueError) as error:
        raise ZooError(f"--show {path}: the picture cannot be written: {error}") from None


def picture_seen(image: Seen) -> Image.Image:
    """The raw image that the model saw, as a PIL image."""
    return Image.fromarray(np.asarray(image.pixels[0].squeeze(-1)))


def scaled(picture: Image.Image) -> Image.Image:
    """The picture with ``SIDE`` pixels on its longer side, in colour; small images keep their pixels visible."""
    scale = SIDE / max(picture.size)
    sizes = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.convert("RGB").resize(sizes, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)


def words(draw: ImageDraw.ImageDraw, place: tuple[int, int], result: Mapping[str, Any]) -> None:
    """Write the name of the file, the prediction and the warnings, in lines that fit."""
    best = result["predictions"][0]
    x, y = place
    name = clean(Path(result["file"]).name)
    lines = [(name, 13, "gray"), (f"{clean(str(best['class']))}  {best['probability']:.1%}", 26, "black")]
    lines += [(warning, 13, "firebrick") for warning in result.get("warnings", ())]
    for text, size, colour in lines:
        font = ImageFont.load_default(size)
        for line in wrapped(draw, text, font):
            draw.text((x, y), line, fill=colour, font=font)
            y += round(1.3 * size)


def wrapped(draw: ImageDraw.ImageDraw, text: str, font: Any) -> list[str]:
    """The text in lines of at most ``TEXT`` pixels, broken between words, or within a word that is longer."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font=font) <= TEXT:
            lines[-1] = longer
            continue
        lines.append("")
        for character in word:
            if lines[-1] and draw.textlength(lines[-1] + character, font=font) > TEXT:
                lines.append("")
            lines[-1] += character
    return [line for line in lines if line][:8]
