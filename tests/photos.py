"""Pictures of single digits as people take them, by program: ink, pencil, print, shadows, lined paper.

``photo(kind, seed)`` gives a PIL image and its digit, always the same for a kind and a seed. Handwriting is drawn from
polylines in several styles, or is a training digit of MNIST, enlarged and pasted as ink; print comes from fonts.
"""

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

# The strokes of each digit in several styles, as x, y in a box of 1 by 1; each stroke is smoothed before it is drawn
STYLES: dict[int, list[list[list[tuple[float, float]]]]] = {
    0: [
        [[(0.5, 0), (0.18, 0.15), (0.1, 0.5), (0.2, 0.88), (0.5, 1), (0.8, 0.86), (0.9, 0.5), (0.8, 0.14), (0.5, 0)]],
        [[(0.6, 0), (0.3, 0.1), (0.2, 0.5), (0.3, 0.9), (0.5, 1), (0.7, 0.85), (0.8, 0.45), (0.7, 0.1), (0.55, 0.02)]],
    ],
    1: [
        [[(0.5, 0), (0.5, 0.5), (0.5, 1)]],
        [[(0.58, 0), (0.5, 0.5), (0.44, 1)]], [[(0.35, 0.2), (0.52, 0), (0.52, 1)]],
    ],
    2: [
        [[(0.15, 0.25), (0.3, 0.04), (0.6, 0), (0.8, 0.2), (0.72, 0.45), (0.4, 0.75), (0.12, 1)],
         [(0.12, 1), (0.88, 1)]],
        [[(0.2, 0.2), (0.5, 0), (0.78, 0.2), (0.6, 0.55), (0.2, 0.9), (0.15, 1), (0.3, 0.9), (0.6, 0.98), (0.9, 0.93)]],
    ],
    3: [
        [
            [(0.2, 0.12), (0.5, 0), (0.78, 0.16), (0.7, 0.4), (0.42, 0.47)],
            [(0.42, 0.47), (0.75, 0.55), (0.84, 0.76), (0.6, 0.98), (0.3, 0.98), (0.15, 0.86)],
        ],
        [
            [(0.2, 0.05), (0.45, 0), (0.75, 0.1), (0.72, 0.36), (0.45, 0.46)],
            [(0.45, 0.46), (0.8, 0.62), (0.72, 0.9), (0.4, 1), (0.12, 0.92)],
        ],
    ],
    4: [
        [[(0.3, 0), (0.12, 0.55)], [(0.12, 0.55), (0.88, 0.55)], [(0.7, 0.1), (0.68, 1)]],
        [[(0.62, 0), (0.1, 0.62)], [(0.1, 0.62), (0.9, 0.62)], [(0.64, 0), (0.64, 1)]],
    ],
    5: [
        [
            [(0.28, 0.02), (0.24, 0.42)],
            [(0.28, 0.02), (0.82, 0.02)],
            [(0.24, 0.42), (0.55, 0.36), (0.8, 0.55), (0.78, 0.82), (0.5, 1), (0.18, 0.9)],
        ],
        [
            [(0.32, 0.05), (0.2, 0.48)],
            [(0.32, 0.05), (0.85, 0)],
            [(0.2, 0.48), (0.5, 0.42), (0.74, 0.62), (0.65, 0.9), (0.4, 1), (0.12, 0.95)],
        ],
    ],
    6: [
        [
            [(0.68, 0), (0.35, 0.22), (0.18, 0.6), (0.28, 0.93), (0.55, 1), (0.8, 0.82), (0.7, 0.58), (0.45, 0.54),
             (0.22, 0.72)]
        ],
        [[(0.55, 0), (0.28, 0.4), (0.2, 0.75), (0.4, 1), (0.68, 0.93), (0.76, 0.7), (0.5, 0.55), (0.23, 0.72)]],
    ],
    7: [
        [[(0.14, 0.03), (0.86, 0.03)], [(0.86, 0.03), (0.55, 0.5), (0.4, 1)]],
        [[(0.15, 0.08), (0.85, 0)], [(0.85, 0), (0.58, 0.45), (0.48, 1)]],
    ],
    8: [
        [
            [
                (0.75, 0.12), (0.5, 0), (0.24, 0.15), (0.32, 0.38), (0.66, 0.58), (0.78, 0.82), (0.5, 1), (0.22, 0.83),
                (0.33, 0.58), (0.66, 0.38), (0.75, 0.12),
            ]
        ],
        [
            [(0.5, 0.46), (0.26, 0.28), (0.32, 0.05), (0.6, 0), (0.74, 0.2), (0.5, 0.46)],
            [(0.5, 0.46), (0.2, 0.68), (0.28, 0.95), (0.6, 1), (0.8, 0.75), (0.5, 0.46)],
        ],
    ],
    9: [
        [
            [(0.76, 0.2), (0.5, 0), (0.22, 0.18), (0.28, 0.42), (0.55, 0.48), (0.76, 0.3)],
            [(0.77, 0.15), (0.72, 0.55), (0.62, 1)],
        ],
        [[(0.72, 0.1), (0.42, 0.02), (0.22, 0.28), (0.4, 0.48), (0.68, 0.35), (0.74, 0.08), (0.72, 0.5), (0.5, 1)]],
    ],
}  # fmt: skip
FONTS = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "DejaVuSans-Bold", "DejaVuSerif-Italic", "DejaVuSans-Oblique")
SMOOTH = 12  # points between two points of a stroke


def smoothed(points: list[tuple[float, float]]) -> np.ndarray:
    """A Catmull-Rom spline through the points, (N, 2)."""
    p = np.array([points[0], *points, points[-1]])
    t = np.linspace(0, 1, SMOOTH, endpoint=False)[:, None]
    parts = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False)
    ]
    return np.concatenate([*parts, p[-1:]])


def drawn(
    digit: int, size: int, pen: float, rng: np.random.Generator, tilt: float = 0, gap: bool = False
) -> np.ndarray:
    """The ink of a digit drawn by hand, float (H, W) in [0, 1].

    Args:
        size: height of the digit in pixels.
        pen: width of the pen as a part of the height.
        tilt: degrees.
        gap: leave gaps between the strokes.
    """
    style = STYLES[digit][rng.integers(len(STYLES[digit]))]
    narrow, slant = rng.uniform(0.6, 0.8), rng.uniform(-0.05, 0.2)
    canvas = Image.new("L", (3 * size, 3 * size))
    draw, width = ImageDraw.Draw(canvas), max(1.0, pen * size)
    angle = np.deg2rad(tilt)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    for i, stroke in enumerate(style):
        points = smoothed([(x + rng.normal(0, 0.015), y + rng.normal(0, 0.015)) for x, y in stroke]) - 0.5
        points = np.stack([points[:, 0] * narrow - points[:, 1] * slant, points[:, 1]], 1) @ turn
        if gap and i:
            points = points[np.linalg.norm(points - points[0], axis=1) > pen + 0.04] if i == len(style) - 1 else points
        points = points * size + 1.5 * size
        r = width / 2
        for x, y in points:
            draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
        draw.line([tuple(p) for p in points], fill=255, width=round(width), joint="curve")
    return trimmed(np.asarray(canvas, float) / 255)


@cache
def mnist() -> tuple[np.ndarray, np.ndarray]:
    """The training images of MNIST, uint8 (N, 28, 28), and their labels."""
    from zoo.data import sources

    data = sources.load("mnist")
    return data["train_images"].squeeze(-1).numpy(), data["train_labels"].numpy()


def enlarged(size: int, rng: np.random.Generator, tilt: float = 0) -> tuple[np.ndarray, int]:
    """The ink of a training digit of MNIST, ``size`` pixels high, with sharp edges, and its label."""
    images, labels = mnist()
    i = int(rng.integers(len(labels)))
    big = Image.fromarray(images[i]).resize((round(size * 1.4),) * 2, Image.Resampling.BICUBIC)
    big = big.rotate(tilt, Image.Resampling.BICUBIC)
    return trimmed(np.clip((np.asarray(big, float) / 255 - 0.35) * 4, 0, 1)), int(labels[i])


def printed(digit: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """The ink of a printed digit in one of matplotlib's fonts or Pillow's own."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    name = (*FONTS, None)[rng.integers(len(FONTS) + 1)]
    font = (
        ImageFont.truetype(folder / f"{name}.ttf", round(size * 1.35)) if name else ImageFont.load_default(size * 1.35)
    )
    canvas = Image.new("L", (3 * size, 3 * size))
    ImageDraw.Draw(canvas).text((size, size // 2), str(digit), font=font, fill=255)
    return trimmed(np.asarray(canvas, float) / 255)


def trimmed(ink: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(ink.max(1) > 0.1), np.flatnonzero(ink.max(0) > 0.1)
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def pasted(page: np.ndarray, ink: np.ndarray, left: int, top: int, colour: np.ndarray) -> np.ndarray:
    """The page (H, W, 3) with ink of a colour, at a place; what lies outside of the page is cut off."""
    h, w = page.shape[:2]
    top, left = max(0, min(top, h - ink.shape[0])), max(0, min(left, w - ink.shape[1]))
    part = page[top : top + ink.shape[0], left : left + ink.shape[1]]
    a = ink[: part.shape[0], : part.shape[1], None]
    part[:] = part * (1 - a) + colour * a
    return page


def paper(h: int, w: int, rng: np.random.Generator, shade: float | None = None, grain: float = 0.012) -> np.ndarray:
    """A sheet of nearly white paper with grain, float (h, w, 3)."""
    tone = rng.uniform(0.8, 0.97) if shade is None else shade
    tint = 1 - rng.uniform(0, 0.06, 3)
    return np.clip(tone * tint + rng.normal(0, grain, (h, w, 1)), 0, 1)


def ruled(page: np.ndarray, rng: np.random.Generator, squared: bool) -> np.ndarray:
    """The page with lines printed on it, blue or grey, slightly tilted."""
    h, w = page.shape[:2]
    step, slope = rng.uniform(0.1, 0.22) * h, rng.uniform(-0.03, 0.03)
    colour = np.array([(0.55, 0.68, 0.9), (0.65, 0.65, 0.68), (0.5, 0.5, 0.55)][rng.integers(3)])
    canvas = Image.new("L", (w, h))
    draw = ImageDraw.Draw(canvas)
    for y in np.arange(-h, 2 * h, step):
        draw.line((0, y, w, y + slope * w), fill=255, width=max(1, round(h / 150)))
    for x in np.arange(-w, 2 * w, step) if squared else ():
        draw.line((x, 0, x - slope * h, h), fill=255, width=max(1, round(h / 150)))
    a = np.asarray(canvas.filter(ImageFilter.GaussianBlur(0.6)), float)[..., None] / 255 * 0.9
    return page * (1 - a) + colour * a


def lit(page: np.ndarray, rng: np.random.Generator, hard: bool) -> np.ndarray:
    """The page under uneven light: darker to one side, and with ``hard`` the edge of a shadow across it."""
    h, w = page.shape[:2]
    y, x = np.mgrid[0:h, 0:w] / max(h, w)
    angle = rng.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    along = (along - along.min()) / np.ptp(along)
    light = 1 - rng.uniform(0.2, 0.5) * along
    if hard:
        soft, where = rng.uniform(0.005, 0.05), rng.uniform(0.25, 0.75)
        light = light * (1 - rng.uniform(0.25, 0.5) / (1 + np.exp(-(along - where) / soft)))
    return page * light[..., None]


def specked(page: np.ndarray, rng: np.random.Generator, digit_height: float) -> np.ndarray:
    """The page with specks of dust."""
    canvas = Image.new("L", page.shape[1::-1])
    draw = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(4, 14)):
        x, y, r = rng.uniform(0, page.shape[1]), rng.uniform(0, page.shape[0]), rng.uniform(0.004, 0.02) * digit_height
        draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
    return page * (1 - np.asarray(canvas, float)[..., None] / 255 * rng.uniform(0.5, 0.9))


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue()))


Maker = Callable[[np.random.Generator], tuple[np.ndarray, int]]
KINDS = (
    "ink", "pencil", "shadow", "hard shadow", "tilt", "off-centre", "small", "large", "lined", "squared", "print",
    "colour", "chalk", "transparent", "phone", "specks", "gap",
)  # fmt: skip


def photo(kind: str, seed: int) -> tuple[Image.Image, int]:
    """A picture of one digit, and the digit."""
    rng = np.random.default_rng([KINDS.index(kind), seed])
    h = int(rng.integers(200, 500))
    w = int(h * rng.uniform(0.8, 1.3))
    if kind == "phone":
        h, w = 2000, 1500
    part = {"small": rng.uniform(0.06, 0.12), "large": rng.uniform(0.88, 1)}.get(kind, rng.uniform(0.3, 0.65))
    if kind == "small":
        h, w = 2 * h, 2 * w
    size = int(part * min(h, w))
    tilt = rng.uniform(-15, 15) if kind == "tilt" else rng.uniform(-4, 4)
    digit, pen = int(rng.integers(10)), rng.uniform(0.06, 0.13)
    if kind == "pencil":
        pen = rng.uniform(0.025, 0.05)
    if kind == "print":
        ink = printed(digit, size, rng)
    elif kind in ("pencil", "gap") or rng.random() < 0.5:
        digit = int(rng.choice([4, 5])) if kind == "gap" else digit
        ink = drawn(digit, size, pen, rng, tilt, gap=kind == "gap")
    else:
        ink, digit = enlarged(size, rng, tilt)
    colour = np.array([(0.1, 0.1, 0.12), (0.12, 0.15, 0.45), (0.2, 0.2, 0.2)][rng.integers(3)])
    page = paper(h, w, rng, grain=rng.uniform(0.004, 0.02))
    if kind == "transparent":
        return transparent(ink, colour if rng.random() < 0.5 else np.ones(3), rng), digit
    if kind == "pencil":
        ink = ink * np.clip(rng.normal(0.75, 0.25, ink.shape), 0.1, 1)
        colour = np.full(3, rng.uniform(0.3, 0.5))
    if kind == "colour":
        page = paper(h, w, rng, 1.0) * rng.uniform(0.45, 1, 3)
        colour = np.array([(0.75, 0.1, 0.1), (0.1, 0.35, 0.15), (0.1, 0.1, 0.6)][rng.integers(3)])
        colour = colour * page.mean((0, 1))
    if kind == "chalk":
        page, colour = paper(h, w, rng, rng.uniform(0.02, 0.25)), np.full(3, rng.uniform(0.8, 1))
    if kind in ("lined", "squared"):
        page = ruled(page, rng, kind == "squared")
    spare_x, spare_y = w - ink.shape[1], h - ink.shape[0]
    spread = (0.0, 1.0) if kind in ("off-centre", "small") else (0.35, 0.65)
    left, top = int(spare_x * rng.uniform(*spread)), int(spare_y * rng.uniform(*spread))
    page = pasted(page, ink, left, top, colour)
    if kind == "specks":
        page = specked(page, rng, size)
    if kind in ("shadow", "hard shadow", "phone") or (kind == "pencil" and seed % 2):
        page = lit(page, rng, kind in ("hard shadow", "phone"))
    noise = rng.normal(0, rng.uniform(0.002, 0.015), page.shape)
    picture = Image.fromarray((np.clip(page + noise, 0, 1) * 255).astype(np.uint8))
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, h / 500)))
    return (jpeg(picture, int(rng.integers(40, 92))) if kind != "ink" else picture), digit


def transparent(ink: np.ndarray, colour: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """A transparent picture with ink of a colour."""
    margin = int(rng.uniform(0.05, 0.5) * ink.shape[0])
    a = np.pad(ink, margin)[..., None]
    return Image.fromarray((np.concatenate([np.broadcast_to(colour, (*a.shape[:2], 3)), a], 2) * 255).astype(np.uint8))
