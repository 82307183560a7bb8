"""Preprocessing of images into a model's input, identical in training, evaluation and prediction."""

from dataclasses import asdict, dataclass
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.data import makers
from zoo.data.eight_bits import Box, plain, visible
from zoo.data.garments import garment
from zoo.data.image_file import Source, opened, orientation_of, turned
from zoo.data.inputs import picture_of, raw
from zoo.errors import ZooError

LONGEST = 8  # largest ratio of length to width; the middle is cut out of longer pictures before they are scaled
LARGEST = 4096  # largest side of a model's input in pixels
SHOWN = 512  # largest side in pixels of the copy that is kept of a picture that was given
Fit = Literal["resize", "digits", "garment"]


@dataclass(frozen=True)
class Seen:
    """What a model sees of a picture.

    Attributes:
        pixels: the raw image, uint8 (1, H, W, C).
        given: the picture, upright, as a copy of at most ``SHOWN`` pixels a side.
        warnings: why the picture is unlike the training data, one sentence each.
    """

    pixels: Tensor
    given: Image.Image
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preprocess:
    """The preprocessing of images: size in pixels, and each channel's mean and standard deviation for values in [0, 1].

    Args:
        resize: pixels to which a picture's short side is scaled (bilinearly, as torchvision's weights expect) before
            the central square of ``image_size`` is cut out; None scales the whole picture to a square, whatever its
            aspect ratio.
        fit: how a picture becomes an image like those of the training data. "digits" and "garment" find the object in
            it and follow the rules by which MNIST and Fashion-MNIST were made (``zoo.data.makers``); "resize" scales
            the whole picture as ``resize`` says.
    """

    image_size: int
    mean: list[float]
    std: list[float]
    resize: int | None = None
    fit: Fit = "resize"

    def __post_init__(self) -> None:
        """Raise a ``ZooError`` for impossible values: a card may come from an untrusted source."""
        sizes = (self.image_size, self.image_size if self.resize is None else self.resize)
        if not 1 <= min(sizes) <= max(sizes) <= LARGEST:
            raise ZooError(f"image_size={self.image_size}, resize={self.resize}: 1 to {LARGEST:,} pixels are valid")
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            raise ZooError(f"mean={self.mean} and std={self.std} are not valid: one number each, or three for colour")
        if not all(map(isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise ZooError(f"mean={self.mean} and std={self.std} are not valid: numbers, and std above 0")
        if self.fit not in get_args(Fit):
            raise ZooError(f"fit={self.fit} is unknown; valid: {', '.join(get_args(Fit))}")
        if self.fit != "resize" and (self.channels != 1 or self.resize is not None):
            raise ZooError(f"fit={self.fit} is for grey images without resize; give fit=resize")

    @property
    def channels(self) -> int:
        return len(self.mean)

    def __call__(self, images: Any) -> Tensor:
        """Turn pictures into the model's input; it serves as a ``transform=`` of torchvision's data sets, too.

        Args:
            images: one picture (a PIL image, or an array or tensor (H, W), (H, W, C) or (C, H, W)), or a batch
                (N, H, W, C) or (N, C, H, W); uint8, or floating-point numbers in [0, 1]. Tensors of the model's size,
                and raw images (uint8 tensors (N, H, W, C)), are only normalised, on their device; a PIL image, an
                array, or a tensor of another size is fitted as ``read`` does it.

        Returns:
            Normalised float32 (C, H, W) for one picture, (N, C, H, W) for a batch.

        Raises:
            ZooError: another type, dtype or number of channels, or numbers outside of [0, 1].
        """
        loaded = isinstance(images, Tensor) and images.dtype == torch.uint8 and images.ndim == 4
        if loaded and images.shape[-1] == self.channels:  # raw images, as a loader gives them: nothing else is checked
            return self.normalised(images)
        if isinstance(images, Image.Image):
            return self.normalised(self.read(images))[0]
        batch, single = raw(images, self.channels, prefer_last=not isinstance(images, Tensor))
        if isinstance(images, Tensor) and batch.shape[1:3] == (self.image_size, self.image_size):
            x = self.normalised(batch) if batch.dtype == torch.uint8 else self.normalised(batch * 255)
        else:
            x = self.normalised(torch.cat([self.read(picture_of(one)) for one in batch]).to(batch.device))
        return x[0] if single else x

    def normalised(self, images: Tensor) -> Tensor:
        """Convert raw images, uint8 (B, H, W, C), to normalised float32 (B, C, H, W), on the same device.

        The result for colour images is in channels_last format at no cost, as that is the raw images' order in memory.
        """
        scale, shift = scale_and_shift(tuple(self.mean), tuple(self.std), images.device)
        return images.to(torch.float32, copy=True).mul_(scale).add_(shift).permute(0, 3, 1, 2)

    def read(self, image: Source, invert: bool = False, name: str | Path | None = None) -> Tensor:
        """Read an image file (or PIL image) of any size and mode as a raw image, uint8 (1, H, W, C).

        See ``see``, which takes the same arguments and also tells what is odd about the picture.
        """
        with opened(image, name) as picture:
            return self.fitted(picture, invert)[1]

    def see(self, image: Source, invert: bool = False, name: str | Path | None = None) -> Seen:
        """Read an image file (or PIL image) of any size and mode, as the model sees it.

        A photograph is turned upright according to its EXIF data; transparent pixels become white (black, if the object
        is white); of an animation or a file with several pages the first image is taken; pixels of 12, 16 and 32 bits
        are scaled to 8 (``zoo.data.eight_bits.white_of``). Then the object is found, cut out and centred, or the
        picture is scaled and cropped, as ``fit`` and ``resize`` say.

        Args:
            image: a path, a file's content, an open binary file, or a PIL image.
            invert: swap dark and light first. With ``fit`` "digits" or "garment", which find out by themselves whether
                the object is dark or light, it says that the object is dark on light ground.
            name: what messages call the image; None means its path, or "the image".

        Raises:
            ZooError: the file is missing, damaged, too large, or not in a supported image format.
        """
        with opened(image, name) as picture:
            upright, pixels, warnings = self.fitted(picture, invert)
            given = upright.copy()
            given.thumbnail((SHOWN, SHOWN))
        return Seen(pixels, given, tuple(warnings))

    def fitted(self, picture: Image.Image, invert: bool) -> tuple[Image.Image, Tensor, list[str]]:
        """The picture upright, its raw image, uint8 (1, H, W, C), and what is odd about the picture."""
        if self.fit == "resize":
            upright = self.upright(picture, "L" if self.channels == 1 else "RGB")
            pixels = torch.from_numpy(np.array(self.square(upright)))
            pixels = pixels.view(1, self.image_size, self.image_size, self.channels)
            return upright, 255 - pixels if invert else pixels, []
        upright = self.upright(visible(picture), "L" if picture.mode in ("L", "1", "I", "F", "I;16") else "RGB")
        rule = makers.digit if self.fit == "digits" else garment
        found = rule(upright, self.image_size, False if invert else None)
        pixels = torch.from_numpy(found.pixels.copy()).view(1, self.image_size, self.image_size, 1)
        return upright, pixels, found.warnings

    def upright(self, picture: Image.Image, mode: str) -> Image.Image:
        """The picture with 8 bits per channel, turned upright; with a ``resize`` only the middle of a very long one."""
        box = (0, 0, *picture.size) if self.resize is None else middle(*picture.size)
        return turned(plain(picture, mode, box), orientation_of(picture))

    def square(self, upright: Image.Image) -> Image.Image:
        """A picture scaled and cropped to ``image_size``."""
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
