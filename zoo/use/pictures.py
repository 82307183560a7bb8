"""Pictures that models make: samples, reconstructions, and walks between two of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from zoo.contracts import Autoencoder, Generator, PixelByPixel, ReadsImages, classes_of, preprocess_of
from zoo.data.decoded import total_memory
from zoo.errors import ZooError
from zoo.use.predict import read_files

BATCH = 256  # images at once


@torch.inference_mode()
def draw(
    model: Any,
    n: int,
    seed: int = 0,
    label: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    batch: int = BATCH,
) -> Tensor:
    """Samples of a model of images, in eval mode; the same for a seed, whatever the batch.

    Args:
        label: the class that a conditional model is to draw; None takes all in turn.
        progress: of models that draw pixel by pixel: called with what is done and all of it.

    Returns:
        (n, C, H, W), with pixels in [0, 1].

    Raises:
        ZooError: a model that makes no images, or none of a class.
    """
    if not isinstance(model, Generator):
        raise ZooError(
            "this model writes no text and draws no images from noise, so there is nothing to sample; of what is "
            "shipped, lstm_shakespeare writes and cgan_mnist draws"
        )
    classes = classes_of(model)
    if label is not None and not (classes and 0 <= label < classes):
        valid = f"it has 0 to {classes - 1}" if classes else "it was trained without classes (model.conditional=true)"
        raise ZooError(f"class {label} is none that this model can draw: {valid}")
    needed = 12 * n * model.noise(1, torch.Generator()).numel()  # noise, images and what is between, in 32 bits
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
    """A model's images (B, C, H, W) as pixels in [0, 1], whatever mean and deviation it was trained with."""
    if isinstance(preprocess, ReadsImages):
        mean, std = (x.new_tensor(v).view(1, -1, 1, 1) for v in (preprocess.mean, preprocess.std))
        x = x * std + mean
    return x.clamp(0, 1)


@torch.inference_mode()
def reconstruct(
    model: Any, paths: Sequence[Path], invert: bool = False
) -> tuple[list[Path], Tensor, Tensor, list[str]]:
    """Image files, and those in folders, as a model sees them, and as it gives them back.

    Returns:
        The files that could be read; their images and what the model makes of them, (N, C, H, W) each, with pixels in
        [0, 1]; and a message for each file or folder that could not.

    Raises:
        ZooError: a model that gives back no images; nothing that can be read.
    """
    preprocess = preprocess_of(model)
    if not (isinstance(model, Autoencoder) and isinstance(preprocess, ReadsImages)):
        raise ZooError("this model has no code to reconstruct images from; an autoencoder has, as sdae_mnist")
    read, errors = read_files(preprocess, paths, invert)
    if not read:
        raise ZooError("; ".join(errors))
    x = preprocess(torch.cat([image for _, image in read]))
    back = model.decode(model.encode(x))
    return [file for file, _ in read], pixels(x, preprocess), pixels(back, preprocess), errors


@torch.inference_mode()
def interpolate(model: Any, a: Tensor, b: Tensor, steps: int, noise: bool, label: int = 0) -> Tensor:
    """Images on the way from one code to another: (1, …) each to (steps, C, H, W), with pixels in [0, 1].

    Args:
        noise: the codes are drawn from N(0, I), as what the model makes images of. They have nearly always the same
            length in a high dimension, so the way is on the sphere between the two (White 2016). Codes of images go
            straight.
        label: the class of the images, of a conditional model.
    """
    share = torch.linspace(0, 1, steps)[:, None]
    path = (1 - share) * a + share * b
    angle = torch.nn.functional.cosine_similarity(a, b).clamp(-1, 1).arccos()
    if noise and angle.sin() > 1e-3:
        path = (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / angle.sin()
    if isinstance(model, Autoencoder):  # of probabilistic PCA without the noise of each pixel
        return pixels(model.decode(path), preprocess_of(model))
    more = {"labels": torch.full((steps,), label)} if classes_of(model) else {}
    return pixels(model.generate(path, **more), preprocess_of(model))


def save_grid(images: Tensor, path: Path, columns: int, scale: int = 1) -> None:
    """Write images (N, C, H, W), with pixels in [0, 1], as one picture, row after row.

    Raises:
        ZooError: a file that cannot be written, or of no known kind.
    """
    grid = make_grid(images, nrow=columns, padding=1)
    pixels = grid.mul(255).round().byte().repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
    except (OSError, ValueError) as error:
        raise ZooError(f"{path} cannot be written: {error}") from None
