"""Pictures of what a trained network looks at; the methods are in ``zoo.use.saliency``."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from zoo.contracts import ReadsImages
from zoo.data.eight_bits import plain
from zoo.data.image_file import opened, orientation_of, turned
from zoo.errors import ZooError
from zoo.pretrained.transfer import head_names
from zoo.terminal import clean
from zoo.use.pictures import pixels
from zoo.use.saliency import activations, grad_cam, integrated_gradients, last_map, maximise, saliency

GIVEN = 600  # the longest side in pixels at which the given image is shown
MOST = 64  # units in one picture


class Explanation(NamedTuple):
    """What the picture of ``explain`` shows.

    Attributes:
        number: the number of the explained class.
        probability: its probability.
        layer: the layer of Grad-CAM; None if the model has no map of the image.
    """

    number: int
    probability: float
    layer: str | None


def explain(
    model: Any, image: Path, out: Path, number: int | None = None, layer: str | None = None, invert: bool = False
) -> Explanation:
    """Write a picture of an image, of what the model sees of it, and of the pixels and regions that its class depends
    on: saliency, integrated gradients with a black baseline, and Grad-CAM.

    Args:
        model: a classifier of images, as returned by ``zoo.load``.
        image: an image file.
        out: the picture file to write.
        number: the class that is explained; None takes the most probable one.
        layer: the layer of Grad-CAM; None takes the last one with a map of the image.
        invert: exchange black and white when reading.

    Raises:
        ZooError: the model is no classifier of images, a file cannot be read or written, or the layer is not valid.
    """
    name, preprocess = model.card.name, model.preprocess
    check_reads(name, preprocess)
    raw = preprocess.read(image, invert=invert)
    x = preprocess(raw)
    with torch.no_grad():
        logits = model(x)
    if not model.classes or logits.shape != (1, len(model.classes)):
        raise ZooError(
            f"{name} is no classifier, so there is no class to explain; --layer and --unit without an image "
            "draw what its units respond to"
        )
    p = logits.softmax(1)[0]
    number = int(p.argmax()) if number is None else number
    layer = layer or last_map(model, x)
    cam = grad_cam(model, x, number, layer)[0] if layer else None
    shares = integrated_gradients(model, x, number, preprocess(torch.zeros_like(raw)))[0].sum(0)
    seen = shown(pixels(x, preprocess)[0])

    figure = Figure(figsize=(3.1 * (4 if cam is None else 5), 3.7), layout="constrained")
    axes = figure.subplots(1, 4 if cam is None else 5)
    axes[0].imshow(given(image))
    axes[0].set_title("the given image")
    axes[1].imshow(seen)
    axes[1].set_title(f"what the model sees, {seen.shape[1]}×{seen.shape[0]}")
    overlay(axes[2], seen, saliency(model, x, number)[0], "saliency", "inferno")
    overlay(axes[3], seen, shares, "integrated gradients", "RdBu_r")
    if cam is not None:
        height, width = cam.shape
        overlay(axes[4], seen, cam, f"Grad-CAM of {layer}, {width}×{height}", "inferno", smooth=True)
    best = int(p.argmax())
    title = f"{name}: {model.classes[best]} {p[best]:.1%}"
    if number != best:
        title += f"; explained is {model.classes[number]} {p[number]:.1%}"
    save(figure, title, out)
    return Explanation(number, float(p[number]), layer)


def explain_units(
    model: Any, layer: str, units: Sequence[int] | None, out: Path, steps: int = 256, seed: int = 0
) -> tuple[list[int], list[int]]:
    """Write a picture of the images that units of a layer respond to most (``zoo.use.saliency.maximise``).

    Args:
        model: a model of images, as returned by ``zoo.load``.
        layer: the name of the layer; the head of a classifier has a unit for each class.
        units: the numbers of the units; None takes the first 16.
        out: the picture file to write.
        steps: the number of steps of gradient ascent.
        seed: the seed of the random numbers.

    Returns:
        The numbers of the units; and of those whose activation stayed 0, as there is no gradient where a ReLU is 0.

    Raises:
        ZooError: the model is not one of images, the layer or a unit is unknown, or the file cannot be written.
    """
    name, preprocess = model.card.name, model.preprocess
    check_reads(name, preprocess)
    example = preprocess.random_input(1)  # (1, C, H, W)
    with torch.no_grad():
        count = activations(model, example, layer).shape[1]
    units = list(range(min(16, count))) if units is None else list(units)
    if len(units) > MOST:
        raise ZooError(f"{len(units)} units do not fit into one picture; give at most {MOST}")
    low, high = ((level - torch.tensor(preprocess.mean)) / torch.tensor(preprocess.std) for level in (0.0, 1.0))
    x = maximise(model, layer, units, low, high, example.shape[-1], steps, seed=seed)
    with torch.no_grad():
        reached = activations(model, x, layer)
    columns = min(len(units), 8)
    rows = -(-len(units) // columns)
    figure = Figure(figsize=(max(1.7 * columns, 5.5), 2.0 * rows + 0.5), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.axis("off")
    is_class = layer in head_names(model) and len(model.classes or ()) == count
    for axis, image, unit, values in zip(axes, pixels(x, preprocess), units, reached, strict=False):
        axis.imshow(shown(image))
        label = model.classes[unit] if is_class else f"unit {unit}"
        axis.set_title(f"{clean(str(label))}: {values[unit]:.3g}", fontsize=9, parse_math=False)
    save(figure, f"{name}: images that activate {layer} most", out)
    return units, [unit for unit, values in zip(units, reached, strict=True) if values[unit] == 0]


def check_reads(name: str, preprocess: Any) -> None:
    """Raise a ``ZooError`` if a model does not take images."""
    if not isinstance(preprocess, ReadsImages):
        raise ZooError(
            f"{name} does not read images, so zoo explain cannot show what it looks at; try zoo sample {name}"
        )


def given(path: Path) -> Image.Image:
    """The given image as it is, upright and in colour, at most ``GIVEN`` pixels wide and high."""
    with opened(path) as picture:
        upright = turned(plain(picture, "RGB", (0, 0, *picture.size)), orientation_of(picture))
    upright.thumbnail((GIVEN, GIVEN))
    return upright


def shown(image: Tensor) -> np.ndarray:
    """An image (C, H, W) with values in [0, 1] for matplotlib: (H, W, 3)."""
    return image.expand(3, -1, -1).permute(1, 2, 0).numpy()


def overlay(axis: Any, seen: np.ndarray, values: Tensor, title: str, colours: str, smooth: bool = False) -> None:
    """Draw a map over the grey image, with a colour bar, which ends where 99 % of the values do.

    Args:
        axis: matplotlib's axes.
        seen: the image, (H, W, 3).
        values: the map, (h, w), which is stretched to the image; if it has negative values, 0 is in the middle of the
            colours.
        title: the title.
        colours: the name of matplotlib's colour map.
        smooth: interpolate between the values.
    """
    height, width = seen.shape[:2]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    largest = float(values.abs().quantile(0.99)) or float(values.abs().max()) or 1.0
    signed = bool(values.min() < 0)
    axis.imshow(seen.mean(2), cmap="gray", vmin=0, vmax=1, extent=extent)
    drawn = axis.imshow(
        values.numpy(),
        cmap=colours,
        alpha=0.75,
        vmin=-largest if signed else 0,
        vmax=largest,
        extent=extent,
        interpolation="bilinear" if smooth else "nearest",
    )
    axis.set_title(title)
    beyond = "both" if signed else "max"
    axis.figure.colorbar(drawn, ax=axis, orientation="horizontal", shrink=0.9, pad=0.02, extend=beyond)


def save(figure: Figure, title: str, out: Path) -> None:
    """Write a figure with a title; ``ZooError`` if the file cannot be written."""
    figure.suptitle(clean(title), x=0.01, ha="left", fontweight="bold", parse_math=False)
    for axis in figure.axes:
        if axis.images and axis.get_label() != "<colorbar>":
            axis.axis("off")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # matplotlib warns of characters that its font lacks
            figure.savefig(out, dpi=110)
    except (OSError, ValueError) as error:
        raise ZooError(f"{out} cannot be written: {error}") from None
