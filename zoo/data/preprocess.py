"""Preprocessing of images into a model's input, identical in training, evaluation and prediction."""

from dataclasses import asdict, dataclass
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.data.eight_bits import Box, plain
from zoo.data.image_file import Source, opened, orientation_of, turned
from zoo.errors import ZooError

LONGEST = 8  # largest ratio of length to width; the middle is cut out of longer pictures before they are scaled
LARGEST = 4096  # largest side of a model's input in pixels


@dataclass(frozen=True)
class Preprocess:
    """The preprocessing of images: size in pixels, and each channel's mean and standard deviation for values in [0, 1].

    Args:
        resize: pixels to which a picture's short side is scaled (bilinearly, as torchvision's weights expect) before
            the central square of ``image_size`` is cut out; None scales the whole picture to a square, whatever its
            aspect ratio.
    """

    image_size: int
    mean: list[float]
    std: list[float]
    resize: int | None = None

    def __post_init__(self) -> None:
        """Raise a ``ZooError`` for impossible values: a card may come from an untrusted source."""
        sizes = (self.image_size, self.image_size if self.resize is None else self.resize)
        if not 1 <= min(sizes) <= max(sizes) <= LARGEST:
            raise ZooError(f"image_size={self.image_size}, resize={self.resize}: 1 to {LARGEST:,} pixels are valid")
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            raise ZooError(f"mean={self.mean} and std={self.std} are not valid: one number each, or three for colour")
        if not all(map(isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise ZooError(f"mean={self.mean} and std={self.std} are not valid: numbers, and std above 0")

    @property
    def channels(self) -> int:
        return len(self.mean)

    def __call__(self, images: Tensor) -> Tensor:
        """Convert raw images, uint8 (B, H, W, C), to normalised float32 (B, C, H, W), on the same device.

        The result for colour images is in channels_last format at no cost, as that is the raw images' order in memory.
        """
        scale, shift = scale_and_shift(tuple(self.mean), tuple(self.std), images.device)
        return images.to(torch.float32, copy=True).mul_(scale).add_(shift).permute(0, 3, 1, 2)

    def read(self, image: Source, invert: bool = False, name: str | Path | None = None) -> Tensor:
        """Read an image file (or PIL image) of any size and mode as a raw image, uint8 (1, H, W, C).

        A photograph is turned upright according to its EXIF data; transparent pixels become white; of an animation or a
        file with several pages the first image is taken; pixels of 12, 16 and 32 bits are scaled to 8
        (``zoo.data.eight_bits.white_of``). The image is scaled to a square whatever its aspect ratio, or scaled and
        cropped if there is a ``resize``.

        Args:
            image: a path, a file's content, an open binary file, or a PIL image.
            invert: swap dark and light, for ink on paper if the model was trained on light digits on dark (MNIST).
            name: what messages call the image; None means its path, or "the image".

        Raises:
            ZooError: the file is missing, damaged, too large, or not in a supported image format.
        """
        with opened(image, name) as picture:
            square = self.square(picture)
        pixels = torch.from_numpy(np.array(square)).view(1, self.image_size, self.image_size, self.channels)
        return 255 - pixels if invert else pixels

    def square(self, picture: Image.Image) -> Image.Image:
        """A picture of any mode, scaled and cropped to ``image_size``, with 8 bits per channel."""
        whole = (0, 0, *picture.size) if self.resize is None else middle(*picture.size)
        upright = turned(plain(picture, "L" if self.channels == 1 else "RGB", whole), orientation_of(picture))
        if self.resize is not None:
            return central_square(upright, self.resize, self.image_size)
        if upright.size == (self.image_size, self.image_size):
            return upright
        return upright.resize((self.image_size, self.image_size), Image.Resampling.BICUBIC)

    def random_input(self, n: int) -> Tensor:
        """A random batch to try a model with, float32 (n, C, H, W); equal n give equal batches."""
        return torch.randn(
            n, self.channels, self.image_size, self.image_size, generator=torch.Generator().manual_seed(n)
        )

    def config(self) -> dict[str, Any]:
        """The preprocessing as plain values for a card, from which ``zoo.config.build.build`` creates it again."""
        return {"_target_": "zoo.data.preprocess.Preprocess", **asdict(self)}


def central_square(picture: Image.Image, short: int, size: int) -> Image.Image:
    """Scale the picture's short side to ``short`` pixels and cut out the central square of ``size``×``size``."""
    width, height = (int(short * side / min(picture.size)) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return picture.crop((left, top, left + size, top + size))


def middle(width: int, height: int) -> Box:
    """The box of the picture that is scaled before its central square is cut out: the middle of a very long picture.

    Scaled as a whole, a picture of 1×40,000 pixels would become one of 256 × 10 million.
    """
    most = LONGEST * min(width, height)
    left, top = max(0, (width - most) // 2), max(0, (height - most) // 2)
    return left, top, min(width, left + most), min(height, top + most)


@lru_cache
def scale_and_shift(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Scale and shift so that (x / 255 − mean) / std = x · scale + shift; cached, as copying to a device takes time."""
    scale = torch.tensor([1 / (255 * s) for s in std], device=device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device)
    return scale, shift
