"""Ink on paper: how much darker or lighter than the paper around it each pixel is, whatever the light."""

import numpy as np

SCALES = (0.06, 0.12, 0.25, 0.5)  # windows in which ink is the rarer side, as parts of the picture's shorter side
SLOPES = np.arange(-0.1, 0.1001, 0.005)  # of lines printed on paper, as height per width
SPAN = 0.85  # part of the picture's width that a printed line crosses
COLOURED = 1.5  # how much more contrast a colour channel must have than the luminance, to be used instead


def box_mean(grey: np.ndarray, radius: int) -> np.ndarray:
    """The mean over the part of each pixel's window, of 2 · radius + 1 pixels a side, inside of the picture."""

    def along_rows(values: np.ndarray) -> np.ndarray:
        sums = np.concatenate([np.zeros((1, values.shape[1])), values.cumsum(0)])
        i = np.arange(len(values))
        low, high = np.maximum(i - radius, 0), np.minimum(i + radius + 1, len(values))
        return (sums[high] - sums[low]) / (high - low)[:, None]

    return along_rows(along_rows(grey).T).T


def greatest(values: np.ndarray, radius: int) -> np.ndarray:
    """The largest value in each pixel's square window, of 2 · radius + 1 pixels a side."""

    def along_rows(rows: np.ndarray) -> np.ndarray:  # windows of 1, 2, 4, … rows; two of them cover the whole window
        n = 2 * radius + 1
        padded = np.pad(rows, ((radius, radius), (0, 0)), constant_values=lowest)
        width = 1
        while 2 * width <= n:
            padded = np.maximum(padded[:-width], padded[width:])
            width *= 2
        return np.maximum(padded[: len(rows)], padded[n - width : n - width + len(rows)])

    lowest = False if values.dtype == bool else -np.inf
    return along_rows(np.ascontiguousarray(along_rows(values).T)).T


def thinned(grey: np.ndarray, longest: int = 256) -> np.ndarray:
    """The picture with about ``longest`` pixels a side, by means over areas."""
    step = max(1, max(grey.shape) // longest)
    h, w = (side // step * step for side in grey.shape)
    return grey[:h, :w].reshape(h // step, step, w // step, step).mean((1, 3)) if step > 1 else grey


def is_light(grey: np.ndarray) -> bool:
    """Whether the object is lighter than its background.

    The object is the rarer side in most windows along its edges: differences from a window's mean are skewed to it.
    The frame of the picture, which is rarely covered by the object, decides in a tight crop.
    """
    grey = thinned(grey)
    votes = 0.0
    for scale in SCALES:
        difference = grey - box_mean(grey, max(1, round(scale * min(grey.shape))))
        cubes = difference**3
        votes += float(cubes.sum() / max(np.abs(cubes).sum(), 1e-9))
    low, high = np.percentile(grey, [2, 98])
    frame = np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]))
    side = float(np.clip(2 * (frame - low) / max(high - low, 1e-6) - 1, -1, 1))  # 1: the frame is light
    return votes - 1.2 * side > 0


def channel_of(colours: np.ndarray) -> np.ndarray:
    """The luminance of a picture (H, W, 3) in [0, 1]; or the channel in which ink of a colour stands out much more."""
    candidates = [colours @ np.array([0.299, 0.587, 0.114]), *np.moveaxis(colours, 2, 0)]
    strengths = []
    for grey in map(thinned, candidates):
        radius = max(1, min(grey.shape) // 8)
        difference = np.abs(grey - box_mean(grey, radius))
        strengths.append(float(np.percentile(difference, 99.5) - np.median(difference)))
    best = int(np.argmax(strengths))
    return candidates[best if strengths[best] > COLOURED * strengths[0] else 0]


def contrast(grey: np.ndarray, radius: int) -> tuple[np.ndarray, float]:
    """The part of the paper's brightness that dark ink takes away, (H, W), and the noise of this in its units.

    The brightness of the paper is a morphological closing: strokes narrower than the window vanish in it, and the edges
    of shadows stay (the "black top hat", Serra 1982). So ink in a shadow has the contrast of ink in the light.

    Args:
        grey: brightness in [0, 1], dark ink on light paper.
        radius: half the side of the window in pixels; more than half the width of a stroke.
    """
    smooth = box_mean(grey, 1) * 0.6 + grey * 0.4
    sheet = -greatest(-greatest(smooth, radius), radius)
    dark = 1 - (smooth + 0.02) / (np.maximum(sheet, smooth) + 0.02)
    middle = float(np.median(dark))  # a closing follows the lightest grains of the paper
    noise = 1.48 * float(np.median(np.abs(dark - middle)))
    return dark - middle, noise


def lines(mask: np.ndarray) -> np.ndarray:
    """The pixels of long, thin, straight lines from edge to edge of the picture, as on lined and squared paper.

    Pixels where a stroke crosses the line are left out: there the ink is thicker than the line.
    """
    return horizontal_lines(mask) | horizontal_lines(mask.T).T


def horizontal_lines(mask: np.ndarray) -> np.ndarray:
    h, w = mask.shape
    found = np.zeros_like(mask)
    if min(h, w) < 24:
        return found
    thick = runs_down(mask)  # the height of the vertical run of ink through each pixel
    most = max(3, round(0.035 * h))
    thin = mask & (thick <= most)
    if thin.sum() < SPAN * w or (thin.any(0)).mean() < SPAN:
        return found
    x = np.arange(w)
    reach = max(1, round(0.004 * h))
    band = greatest(thin, reach)  # a little thicker, for slopes in between
    ends = max(2, w // 12)
    for slope in SLOPES:
        shift = np.round(slope * (x - w / 2)).astype(int)
        rows = np.arange(h)[:, None] + shift
        inside = (rows >= 0) & (rows < h)
        straight = band[rows.clip(0, h - 1), x] & inside
        cover = straight.sum(1) / np.maximum(inside.sum(1), 1)
        for row in np.flatnonzero((cover >= SPAN) & (inside.sum(1) > w / 2)):
            covered = straight[row]
            if not (covered[:ends].any() and covered[-ends:].any()):
                continue
            for offset in range(-most, most + 1):
                at = rows[row] + offset
                good = (at >= 0) & (at < h)
                found[at[good], x[good]] = True
    return found & thin


def runs_down(mask: np.ndarray) -> np.ndarray:
    """For each pixel of a mask the length of the vertical run of pixels that it is in; 0 outside."""
    h, w = mask.shape
    padded = np.zeros((h + 2, w), int)
    padded[1:-1] = mask
    change = np.diff(padded, axis=0).T  # (w, h + 1)
    columns, starts = np.nonzero(change == 1)
    _, stops = np.nonzero(change == -1)
    out = np.zeros((w, h), int)
    lengths = stops - starts
    flat = np.repeat(columns * h + starts, lengths) + (
        np.arange(lengths.sum()) - np.repeat(lengths.cumsum() - lengths, lengths)
    )
    out.reshape(-1)[flat] = np.repeat(lengths, lengths)
    return out.T
