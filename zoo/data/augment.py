"""Augmentation of whole batches of raw images, each image with its own random draw, on the device it is on."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.errors import ZooError


@dataclass(frozen=True)
class Augment:
    """Random changes that keep the class; each is off at its default.

    Args:
        shift: pixels, each image is moved by up to that many in x and y; what comes in is zero.
        flip: mirror each image left to right with probability 1/2.
        rotate: degrees, each image is turned by up to that many.
        zoom: each image is scaled by a factor in [1 − zoom, 1 + zoom].
    """

    shift: int = 0
    flip: bool = False
    rotate: float = 0.0
    zoom: float = 0.0

    def __post_init__(self):
        if self.shift < 0 or self.rotate < 0:
            raise ZooError(f"data.augment: shift={self.shift}, rotate={self.rotate} are not valid: give 0 or more")
        if not 0 <= self.zoom < 1:
            raise ZooError(f"data.augment.zoom={self.zoom} is not valid: give 0 or more and less than 1")

    def __call__(self, images: Tensor) -> Tensor:
        """Raw images, uint8 (B, H, W, C), to the same shape and type."""
        if self.shift or self.flip:
            images = shift_and_flip(images, self.shift, self.flip)
        if self.rotate or self.zoom:
            images = rotate_and_zoom(images, self.rotate, self.zoom)
        return images


def shift_and_flip(images: Tensor, shift: int, flip: bool) -> Tensor:
    """Shift each image by up to ``shift`` pixels and mirror it or not, in one gather: (B, H, W, C) -> same."""
    b, h, w, _ = images.shape
    device = images.device
    padded = F.pad(images, (0, 0, shift, shift, shift, shift))  # (B, H+2s, W+2s, C)
    top, left = torch.randint(0, 2 * shift + 1, (2, b, 1), device=device)
    rows = torch.arange(h, device=device) + top  # (B, H)
    columns = torch.arange(w, device=device).expand(b, w)
    if flip:
        columns = torch.where(torch.rand(b, 1, device=device) < 0.5, w - 1 - columns, columns)
    columns = columns + left  # (B, W)
    batch = torch.arange(b, device=device)
    return padded[batch[:, None, None], rows[:, :, None], columns[:, None, :]]


def rotate_and_zoom(images: Tensor, degrees: float, zoom: float) -> Tensor:
    """Rotate by up to ±``degrees`` and scale by 1 ± ``zoom`` about the centre, bilinear: (B, H, W, C) -> same."""
    b = len(images)
    angle = (torch.rand(b, device=images.device) * 2 - 1) * torch.pi / 180 * degrees
    scale = 1 + (torch.rand(b, device=images.device) * 2 - 1) * zoom
    cos, sin, zero = angle.cos() / scale, angle.sin() / scale, torch.zeros_like(angle)
    theta = torch.stack([cos, -sin, zero, sin, cos, zero], dim=1).view(b, 2, 3)
    x = images.permute(0, 3, 1, 2).float()  # (B, C, H, W)
    x = F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)
    return x.round_().to(torch.uint8).permute(0, 2, 3, 1)
