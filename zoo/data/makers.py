"""Pictures of a digit made like the training data of MNIST: found, cut out, scaled and centred."""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from zoo.data.components import Part, joined, labelled, objects, parts_of
from zoo.data.ink import channel_of, contrast, greatest, is_light, lines

AT_MOST = 512  # pixels of the longer side in which the object is looked for
OBJECT = 120  # pixels of the object's longer side from which the small image is made
SMALLEST = 8  # pixels of the shorter side of a picture in which an object is looked for
FAINTEST = 0.05  # contrast of the faintest ink, as a part of the paper's brightness
BOX = 20  # pixels of the box in which MNIST's digits are, in an image of 28
THIN = 1.9  # pixels of the thinnest strokes in the box of 20; thinner ones are drawn again with a thicker pen
SHEET = 0.35  # a sheet's shorter side, as a part of the picture's; a stroke of chalk is narrower
SOLID = 0.7  # part of a sheet's box that is paper; a sheet may be tilted
FULL = 0.85  # part of a row that is paper, where the row is taken to be inside of a tilted sheet

NOTHING = "no object was found in the picture, so the whole picture was used"
SEVERAL = "the picture seems to hold several objects; the largest was used"
WIDE = "the object is much wider than the digits of the training data; it may be several digits"
FILLS = "the object fills the picture from edge to edge, unlike a digit on paper"


@dataclass
class Found:
    """An image as the model gets it, uint8 (size, size), and what is odd about the picture that it was made from."""

    pixels: np.ndarray
    warnings: list[str] = field(default_factory=list)


@dataclass
class Ink:
    """The ink in a picture: contrast to the paper (H, W), the parts of each object, and the labels of the parts."""

    dark: np.ndarray
    labels: np.ndarray
    groups: list[list[Part]]
    level: float


def digit(picture: Image.Image, size: int, light: bool | None = None) -> Found:
    """A digit as MNIST's makers prepared it (LeCun et al. 1998, section III.A): scaled into a box of 20 × 20 pixels
    with its aspect ratio kept, and moved so that its centre of mass is the centre of the image of 28 × 28.

    Args:
        picture: mode "L" or "RGB".
        size: pixels of the image; the box has 20/28 of it.
        light: whether the digit is lighter than its background; None means that the picture shows this.
    """
    if picture.size == (size, size) and (made := as_made(picture, light)) is not None:
        return Found(made)
    if min(picture.size) < SMALLEST:
        return Found(whole(picture, size, light), [NOTHING])
    if light is not True and (box := sheet(picture)) is not None:
        inside = digit(picture.crop(box), size, light)
        if NOTHING not in inside.warnings:
            return inside
    small = reduced(picture, AT_MOST)
    grey, is_lighter = grey_of(small, light)
    ink = search(grey, max(2, min(grey.shape) // 7)) or search(grey, max(2, min(grey.shape) // 3))  # bold print
    if ink is None:
        return Found(whole(picture, size, light), [NOTHING])
    warnings = oddities(ink, grey.shape)
    box = joined(ink.groups[0])
    alpha = close_up(picture, box, small.width / picture.width, is_lighter)
    if alpha.max() < 0.1:
        return Found(whole(picture, size, light), [NOTHING])
    return Found(centred(alpha / alpha.max(), size), warnings)


def sheet(picture: Image.Image) -> tuple[int, int, int, int] | None:
    """The box (left, top, right, bottom) of a sheet of paper on something dark; None if there is none."""
    small = np.asarray(reduced(picture.convert("L"), 128), np.float32)
    h, w = small.shape
    low, high = np.percentile(small, [5, 95])
    mask = small > (low + high) / 2
    if min(h, w) < 24 or high - low < 40 or frame(mask).mean() > 0.45:
        return None
    parts = parts_of(labels := labelled(mask), mask.astype(float))
    part = parts[0]
    box = labels[part.top : part.bottom, part.left : part.right] == part.label
    if min(part.width, part.height) < SHEET * min(h, w) or box.mean() < SOLID:
        return None
    y, x = np.flatnonzero(box.mean(1) > FULL), np.flatnonzero(box.mean(0) > FULL)
    if len(y) < 8 or len(x) < 8:
        return None
    edge = 0.02 * min(part.width, part.height) + 1  # a little inside of the edges
    scale = picture.width / w
    left, top = part.left + x[0] + edge, part.top + y[0] + edge
    right, bottom = part.left + x[-1] + 1 - edge, part.top + y[-1] + 1 - edge
    return round(left * scale), round(top * scale), round(right * scale), round(bottom * scale)


def grey_of(picture: Image.Image, light: bool | None) -> tuple[np.ndarray, bool]:
    """Brightness in [0, 1] with a dark object on light ground, and whether the object was the lighter one."""
    values = np.asarray(picture, np.float32) / 255
    grey = channel_of(values) if values.ndim == 3 else values
    light = is_light(grey) if light is None else light
    return (1 - grey if light else grey), light


def search(grey: np.ndarray, radius: int) -> Ink | None:
    """The objects in a picture; None if nothing stands out."""
    dark, noise = contrast(grey, radius)
    low = max(5 * noise, FAINTEST)
    mask = dark > low
    mask &= ~lines(mask)
    dy, dx = np.gradient(dark)
    edges = np.hypot(dx, dy)  # ink has sharp edges, and what is left of a shadow has not
    edges = np.where(edges > max(4 * noise, 0.02), edges, 0)
    while True:
        labels = labelled(mask)
        parts = parts_of(labels, edges)
        if not parts or parts[0].weight <= 0:
            return None
        level = float(np.percentile(dark[labels == parts[0].label], 85))
        if not spans(parts[0], grey.shape) or low > 0.6 * level:
            break
        low *= 1.4  # lines that are bent, or the edge of a table: ink is darker than they are
        mask &= dark > low
    mask &= dark > 0.4 * level
    labels = labelled(mask)
    parts = [part for part in parts_of(labels, edges) if part.weight > 0]
    if not parts:
        return None
    specks = 0.02 * parts[0].weight
    parts = [part for part in parts if part.weight > specks][:60]
    groups = objects(parts)
    heaviest = sum(part.weight for part in groups[0])
    groups.sort(key=lambda g: spans(joined(g), grey.shape) and joined(g).weight < 10 * heaviest)
    return Ink(dark, labels, groups, level)


def spans(part: Part, shape: tuple[int, ...]) -> bool:
    """Whether a part reaches from one edge of the picture to the opposite one."""
    across, down = part.left <= 1 and part.right >= shape[1] - 1, part.top <= 1 and part.bottom >= shape[0] - 1
    return across or down


def oddities(ink: Ink, shape: tuple[int, ...]) -> list[str]:
    """What is odd about a picture with this ink."""
    main, *others = map(joined, ink.groups)
    warnings = []
    if any(other.longest > 0.45 * main.longest and other.weight > 0.15 * main.weight for other in others):
        warnings.append(SEVERAL)
    elif main.width > 1.5 * main.height:
        warnings.append(WIDE)
    h, w = shape
    if (main.left <= 1) + (main.top <= 1) + (main.right >= w - 1) + (main.bottom >= h - 1) > 2:
        warnings.append(FILLS)
    return warnings


def close_up(picture: Image.Image, box: Part, scale: float, light: bool) -> np.ndarray:
    """The ink of an object, float (H, W) in [0, 1], from a closer look: the longer side has ``OBJECT`` pixels.

    Args:
        box: of the object, in a picture smaller by ``scale``.
    """
    margin = 0.5 * box.longest + 2
    edges = (box.left - margin, box.top - margin, box.right + margin, box.bottom + margin)
    left, top = (max(0, int(v / scale)) for v in edges[:2])
    right, bottom = min(picture.width, int(edges[2] / scale) + 1), min(picture.height, int(edges[3] / scale) + 1)
    zoom = OBJECT / (box.longest / scale)
    cut = picture.crop((left, top, right, bottom))
    sizes = max(8, round(cut.width * zoom)), max(8, round(cut.height * zoom))
    cut = cut.resize(sizes, Image.Resampling.BICUBIC if zoom > 1 else Image.Resampling.BOX)
    grey, _ = grey_of(cut, light)
    ink = search(grey, OBJECT // 4)
    if ink is None:
        return 1 - grey
    labels = [part.label for part in ink.groups[0]]
    near = greatest(np.isin(ink.labels, labels), 2)
    alpha = np.clip((ink.dark / ink.level - 0.2) / 0.6, 0, 1) * near
    return alpha


def centred(alpha: np.ndarray, size: int) -> np.ndarray:
    """Ink (H, W) in [0, 1] scaled into the box and moved so that its centre of mass is the image's centre."""
    y, x = np.flatnonzero(alpha.max(1) > 0.5), np.flatnonzero(alpha.max(0) > 0.5)
    alpha = alpha[y[0] : y[-1] + 1, x[0] : x[-1] + 1]
    box = BOX * size / 28
    longest = max(alpha.shape)
    width = stroke_width(alpha) * box / longest
    if width < THIN:
        grow = max(1, round((THIN - width) / 2 * longest / box))
        alpha = greatest(np.pad(alpha, grow), grow)
        longest = max(alpha.shape)
    h, w = (max(1, round(side * box / longest)) for side in alpha.shape)
    picture = Image.fromarray((alpha * 255).round().astype(np.uint8)).resize((w, h), Image.Resampling.BOX)
    ink = np.asarray(picture, np.float64)
    total = max(ink.sum(), 1e-9)
    cy, cx = (ink.sum(1) @ np.arange(h)) / total, (ink.sum(0) @ np.arange(w)) / total
    top, left = round((size - 1) / 2 - cy), round((size - 1) / 2 - cx)
    top, left = min(max(top, 0), size - h), min(max(left, 0), size - w)
    out = np.zeros((size, size), np.uint8)
    out[top : top + h, left : left + w] = ink.round()
    return out


def stroke_width(alpha: np.ndarray) -> float:
    """The mean width of strokes in pixels: twice the area divided by the length of the outline."""
    inked = np.pad(alpha > 0.5, 1)
    outline = (inked[1:] != inked[:-1]).sum() + (inked[:, 1:] != inked[:, :-1]).sum()
    return 2 * float(inked.sum()) / max(float(outline) * 0.8, 1)  # steps along a slanted outline are longer than it


def whole(picture: Image.Image, size: int, light: bool | None) -> np.ndarray:
    """The whole picture scaled into the image; dark and light are swapped if its frame is light, as paper is."""
    small = picture.convert("L")
    if small.size != (size, size):
        small = small.resize((size, size), Image.Resampling.BICUBIC)
    pixels = np.asarray(small)
    if light is None:
        light = bool(np.median(frame(pixels)) < 160)
    return pixels if light else 255 - pixels


def frame(pixels: np.ndarray) -> np.ndarray:
    """The outermost pixels of a picture (H, W)."""
    return np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])


def as_made(picture: Image.Image, light: bool | None) -> np.ndarray | None:
    """The pixels of an image that is already as MNIST's makers made it, light on black, perhaps with dark and light
    swapped; None for other pictures.
    """
    pixels = np.asarray(picture.convert("L"))
    if light is False or (light is None and np.median(frame(pixels)) > 127):
        pixels = 255 - pixels
    size, ink = len(pixels), pixels.astype(float)
    rows, columns = np.flatnonzero(pixels.max(1) > 0), np.flatnonzero(pixels.max(0) > 0)
    if not len(rows) or frame(pixels).mean() > 12:
        return None
    longest = max(np.ptp(rows), np.ptp(columns)) + 1
    centre = np.array([ink.sum(1) @ np.arange(size), ink.sum(0) @ np.arange(size)]) / ink.sum()
    box = BOX * size / 28
    if not 0.85 * box <= longest <= 1.05 * box or np.abs(centre - (size - 1) / 2).max() > 1.5:
        return None
    return pixels


def reduced(picture: Image.Image, longest: int) -> Image.Image:
    """The picture with at most ``longest`` pixels a side, by means over areas."""
    if max(picture.size) <= longest:
        return picture
    scale = longest / max(picture.size)
    w, h = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((w, h), Image.Resampling.BOX)
