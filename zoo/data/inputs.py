"""Arrays and tensors of pictures, as programs hold them, checked and brought into one form."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.errors import ZooError

INPUTS = (
    "a PIL image, an array or a tensor: uint8, or floating-point numbers in [0, 1]; (H, W), (H, W, C), (C, H, W), or "
    "a batch (N, H, W, C) or (N, C, H, W)"
)


def raw(images: Any, channels: int, prefer_last: bool) -> tuple[Tensor, bool]:
    """An array or tensor as a batch (N, H, W, C), uint8 or float32 in [0, 1], and whether it was a single picture.

    Raises:
        ZooError: it is not what ``INPUTS`` says.
    """
    if isinstance(images, (str, Path)):
        raise ZooError(f"{str(images)!r} is a path and no picture: preprocess.read({str(images)!r}) reads the file")
    if not isinstance(images, (np.ndarray, Tensor)):
        raise ZooError(f"a {type(images).__name__} is no picture; valid: {INPUTS}")
    valid = (
        images.dtype == np.uint8 or np.issubdtype(images.dtype, np.floating)
        if isinstance(images, np.ndarray)
        else (images.dtype == torch.uint8 or images.is_floating_point())
    )
    shown = f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
    if not valid:
        raise ZooError(f"pictures of type {shown} are not valid: give {INPUTS}")
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.array(images))  # a copy: PIL's arrays cannot be written to
    single = images.ndim <= 3
    if images.ndim == 2 and channels == 1:
        images = images[None, :, :, None]
    elif images.ndim in (3, 4):
        images = images[None] if single else images
        last, first = images.shape[3] == channels, images.shape[1] == channels
        if not (last or first):
            raise ZooError(
                f"pictures of type {shown} are not valid: the model takes {channels} channels; give {INPUTS}"
            )
        if first and not (last and prefer_last):
            images = images.permute(0, 2, 3, 1)
    else:
        raise ZooError(f"pictures of type {shown} are not valid: the model takes {channels} channels; give {INPUTS}")
    if images.numel() == 0:
        raise ZooError(f"pictures of type {shown} are not valid: there are no pixels in them")
    if images.is_floating_point():
        low, high = (float(v) for v in images.aminmax())
        if not 0 <= low <= high <= 1:
            raise ZooError(
                f"pictures with numbers from {low:.4g} to {high:.4g} are not valid: give numbers in [0, 1] that are "
                f"not normalised, or uint8 in 0 to 255"
            )
        images = images.float()
    return images, single


def picture_of(pixels: Tensor) -> Image.Image:
    """A picture (H, W, C), uint8 or in [0, 1], as a PIL image."""
    pixels = pixels if pixels.dtype == torch.uint8 else (pixels * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.squeeze(-1).cpu().numpy())
