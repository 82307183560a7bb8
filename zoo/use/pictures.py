"""Images made by models: samples, reconstructions, and interpolations between two images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor
from torchvision.utils import make_grid

from zoo.contracts import Autoencoder, Generator, PixelByPixel, ReadsImages, classes_of, preprocess_of
from zoo.data.decoded import total_memory
from zoo.errors import ZooError
from zoo.use.predict import read_files

BATCH = 256  # images generated at once


@torch.inference_mode()
def draw(
    model: Any,
    n: int,
    seed: int = 0,
    label: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    batch: int = BATCH,
) -> Tensor:
    """Samples of an image model in eval mode; the same seed gives the same samples, whatever the batch size.

    Args:
        n: the number of samples.
        seed: the seed of the noise.
        label: the class that a conditional model draws; None draws all classes in turn.
        progress: for models that draw pixel by pixel: called with the number of pixels done and the total number.
        batch: the number of images generated at once.

    Returns:
        (n, C, H, W), with pixels in [0, 1].

    Raises:
        ZooError: the model generates no images, or none of this class; too many images for the memory.
    """
    if not isinstance(model, Generator):
        raise ZooError(
            "this model writes no text and draws no images from noise, so there is nothing to sample; of the shipped "
            "models, lstm_shakespeare writes text and cgan_mnist draws images"
        )
    classes = classes_of(model)
    if label is not None and not (classes and 0 <= label < classes):
        valid = f"it has 0 to {classes - 1}" if classes else "it was trained without classes (see model.conditional)"
        raise ZooError(f"this model cannot draw class {label}: {valid}")
    needed = 12 * n * model.noise(1, torch.Generator()).numel()  # noise, activations and images, in 32 bits
    if total_memory() and needed > total_memory() / 2:
        raise ZooError(f"{n} images of this model take {needed / 1e9:,.1f} GB, more than half of this machine's memory")
    noise = model.noise(n, torch.Generator().manual_seed(seed))
    labels = torch.arange(n) % (classes or 1) if label is None else torch.full((n,), label)
    parts = []
    for start in range(0, n, batch):
        part, more = slice(start, start + batch), {}
        if classes:
            more["labels"] = labels[part]
        if progress and isinstance(model, PixelByPixel):
            more["progress"] = lambda done, whole, start=start: progress(
                done + start * whole // batch, whole * -(-n // batch)
            )
        parts.append(model.generate(noise[part], **more))
    return pixels(torch.cat(parts), preprocess_of(model))


def pixels(x: Tensor, preprocess: Any) -> Tensor:
    """A model's images (B, C, H, W) as pixels in [0, 1], with the normalisation of its training undone."""
    if isinstance(preprocess, ReadsImages):
        mean, std = (x.new_tensor(v).view(1, -1, 1, 1) for v in (preprocess.mean, preprocess.std))
        x = x * std + mean
    return x.clamp(0, 1)


@torch.inference_mode()
def reconstruct(
    model: Any, paths: Sequence[Path], invert: bool = False
) -> tuple[list[Path], Tensor, Tensor, list[str]]:
    """Read image files, and those in folders, and reconstruct them with a model.

    Args:
        invert: exchange black and white when reading.

    Returns:
        The files that could be read; the preprocessed images and their reconstructions, (N, C, H, W) each, with pixels
        in [0, 1]; and an error message for each file or folder that could not be read.

    Raises:
        ZooError: the model does not reconstruct images, or no file can be read.
    """
    preprocess = preprocess_of(model)
    if not (isinstance(model, Autoencoder) and isinstance(preprocess, ReadsImages)):
        raise ZooError("this model does not reconstruct images; take an autoencoder, such as sdae_mnist")
    read, errors = read_files(preprocess, paths, invert)
    if not read:
        raise ZooError("; ".join(errors))
    x = preprocess(torch.cat([image for _, image in read]))
    back = model.decode(model.encode(x))
    return [file for file, _ in read], pixels(x, preprocess), pixels(back, preprocess), errors


@torch.inference_mode()
def interpolate(model: Any, a: Tensor, b: Tensor, steps: int, noise: bool, label: int = 0) -> Tensor:
    """Images decoded from codes interpolated between a and b: (1, D) each to (steps, C, H, W), pixels in [0, 1].

    Args:
        noise: whether a and b are noise from N(0, I) rather than codes of images. In high dimensions such noise has
            nearly constant length, so the interpolation is spherical (White 2016). For codes of images it is linear.
        label: the class of the images, for a conditional model.
    """
    share = torch.linspace(0, 1, steps)[:, None]
    path = (1 - share) * a + share * b
    angle = torch.nn.functional.cosine_similarity(a, b).clamp(-1, 1).arccos()
    if noise and angle.sin() > 1e-3:
        path = (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / angle.sin()
    if isinstance(model, Autoencoder):  # for probabilistic PCA this omits the noise of each pixel
        return pixels(model.decode(path), preprocess_of(model))
    more = {"labels": torch.full((steps,), label)} if classes_of(model) else {}
    return pixels(model.generate(path, **more), preprocess_of(model))


def with_labels(grid: Tensor, rows: Sequence[str], columns: Sequence[str] = ()) -> Tensor:
    """A grid of equally large images with words in a white margin: at the left for rows, and above for columns.

    Args:
        grid: (C, H, W) with C 1 or 3 and pixels in [0, 1], as torchvision's ``make_grid`` gives it.
        rows: a word for each row of images.
        columns: a word for each column of images; none leaves the margin above out.

    Returns:
        (3, H + above, W + left); the lower right part is the grid as it was.
    """
    font: Any = ImageFont.load_default()
    _, high, wide = grid.shape
    left = max(round(font.getlength(word)) for word in rows) + 6
    above = 16 if columns else 0
    margin = Image.new("RGB", (left + wide, above + high), "white")
    pen = ImageDraw.Draw(margin)
    for i, word in enumerate(rows):
        pen.text((left - 3, above + high * (i + 0.5) / len(rows)), word, "black", font, anchor="rm")
    for i, word in enumerate(columns):
        pen.text((left + wide * (i + 0.5) / len(columns), above - 3), word, "black", font, anchor="ms")
    picture = pil_to_tensor(margin).float() / 255
    picture[:, above:, left:] = grid.expand(3, -1, -1)
    return picture


def save_grid(images: Tensor, path: Path, columns: int, scale: int = 1) -> None:
    """Write images (N, C, H, W), with pixels in [0, 1], as one picture, row after row.

    Args:
        columns: the number of images in a row.
        scale: the factor by which each pixel is enlarged.

    Raises:
        ZooError: the file cannot be written, or its suffix is not that of an image format.
    """
    grid = make_grid(images, nrow=columns, padding=1)
    pixels = grid.mul(255).round().byte().repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
    except (OSError, ValueError) as error:
        raise ZooError(f"{path} cannot be written: {error}") from None
