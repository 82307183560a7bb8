"""Pictures of a garment made like the training data of Fashion-MNIST: trimmed, scaled, sharpened and made negative."""

import numpy as np
from PIL import Image, ImageFilter

from zoo.data.components import joined, labelled, objects, parts_of
from zoo.data.makers import AT_MOST, FAINTEST, NOTHING, SEVERAL, Found, frame, reduced, whole

BUSY = "the ground around the object is not plain, unlike that of the training data"


def garment(picture: Image.Image, size: int, light: bool | None = None) -> Found:
    """A garment as Fashion-MNIST's makers prepared it (Xiao et al. 2017, section 2): trimmed, the longest edge scaled
    to the image's, sharpened, the shortest edge extended the garment in the centre, and negative: the ground black.

    Pixels are averaged over areas, where the makers left out rows and columns.

    Args:
        picture, size: as in ``digit``.
        light: True if the ground is dark, False if it is light; None means that the picture's frame shows this.
    """
    pixels = np.asarray(picture.convert("L"))
    ground = float(np.median(frame(pixels)))
    corners = pixels[[0, 0, -1, -1], [0, -1, 0, -1]]
    if picture.size == (size, size):  # made already; perhaps with dark and light swapped
        swapped = light is False or (light is None and corners.min() > 239 and ground > 127)
        return Found(255 - pixels if swapped else pixels)
    light = ground < 127 if light is None else light
    value = (pixels - ground) / max(255 - ground, 1) if light else (ground - pixels) / max(ground, 1)
    small = np.asarray(reduced(Image.fromarray(np.abs(value).clip(0, 1).astype(np.float32)), AT_MOST // 2))
    rim = frame(small)
    plain_ground = float(np.percentile(rim, 75)) < 0.1
    mask = small > max(FAINTEST, min(0.2, 4 * float(np.median(rim))))
    parts = parts_of(labelled(mask), small)
    if not parts:
        return Found(whole(picture, size, light), [NOTHING])
    parts = [part for part in parts if part.weight > 0.02 * parts[0].weight]
    main, *others = map(joined, objects(parts))
    warnings = [] if plain_ground else [BUSY]
    if any(other.weight > 0.3 * main.weight for other in others):
        warnings.append(SEVERAL)
    scale = picture.width / small.shape[1]
    box = main if others else joined(parts)
    edges = [round(v * scale) for v in (box.left, box.top, box.right, box.bottom)]
    cut = Image.fromarray((value.clip(0, 1) * 255).astype(np.uint8)).crop(tuple(edges))  # type: ignore[arg-type]
    w, h = (max(1, round(side * size / max(cut.size))) for side in cut.size)
    cut = cut.resize((w, h), Image.Resampling.BOX).filter(ImageFilter.UnsharpMask(radius=1, percent=50, threshold=0))
    out = Image.new("L", (size, size))
    out.paste(cut, ((size - w) // 2, (size - h) // 2))
    return Found(np.asarray(out), warnings)
