"""Augmentation of whole mini-batches on their device, with independent random draws for each image."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.errors import ZooError


@dataclass(frozen=True)
class Augment:
    """Random transformations of training images; each is off at its default.

    Args:
        shift: each image is shifted by up to this many pixels in x and y (He et al. 2016: 4).
        flip: mirror each image left to right with probability 1/2; "alternate" mirrors a fixed random half of the
            images in even epochs and the other half in odd epochs, so that two epochs show both versions of every image
            (Jordan 2024, section 3.6).
        rotate: each image is rotated by up to this many degrees in either direction.
        zoom: each image is scaled by a factor in [1 − zoom, 1 + zoom].
        elastic: each image is distorted by a smooth random field, whose displacements in x and y at its 5 × 5 knots
            have this standard deviation in pixels (after Simard et al. 2003, section 2).
        colour: brightness, contrast and saturation are each scaled by a factor in [1 − colour, 1 + colour].
        cutout: side in pixels of a square that is set to the data's mean; its centre may be anywhere in the image
            (DeVries & Taylor 2017).
        mixup: α of Beta(α, α), from which the weight is drawn with which each image and its label are averaged with
            another image and its label (Zhang et al. 2018).
        cutmix: α of Beta(α, α), from which the size of a rectangle is drawn that each image takes from another image;
            the labels are averaged in proportion to the area (Yun et al. 2019). If mixup is on too, each batch uses one
            of the two at random.
        border: what fills the pixels that a shift leaves empty: "zero", or "reflect" for the image's reflection.
    """

    shift: int = 0
    flip: bool | Literal["alternate"] = False
    rotate: float = 0.0
    zoom: float = 0.0
    elastic: float = 0.0
    colour: float = 0.0
    cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    border: Literal["zero", "reflect"] = "zero"

    def __post_init__(self):
        for name in ("shift", "rotate", "elastic", "cutout", "mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise ZooError(f"data.augment: {name}={getattr(self, name)} is not valid: give 0 or more")
        for name, valid in (("border", ("zero", "reflect")), ("flip", (False, True, "alternate"))):
            if getattr(self, name) not in valid:
                words = ", ".join(str(v).lower() for v in valid)
                raise ZooError(f"data.augment: {name}={getattr(self, name)} is not valid: give one of {words}")
        for name in ("zoom", "colour"):
            if not 0 <= getattr(self, name) < 1:
                raise ZooError(
                    f"data.augment: {name}={getattr(self, name)} is not valid: give 0 or more and less than 1"
                )

    def __call__(self, images: Tensor, mirrored: Tensor | None = None) -> Tensor:
        """Transform raw images, uint8 (B, H, W, C), to the same shape and type.

        Args:
            mirrored: which images to mirror, bool (B,); None draws them at random if ``flip`` is on.
        """
        if self.flip and mirrored is None:
            mirrored = torch.rand(len(images), device=images.device) < 0.5
        if self.shift or mirrored is not None:
            images = shift_and_flip(images, self.shift, mirrored, self.border)
        if self.rotate or self.zoom or self.elastic:
            images = warp(images, self.rotate, self.zoom, self.elastic)
        if self.colour:
            images = jitter_colour(images, self.colour)
        return images

    def mix(self, x: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        """Apply the transformations that act on the model's input: cutout, mixup and cutmix.

        Args:
            x: normalised images, float (B, C, H, W); the data's mean is 0.
            labels: int64 (B,).

        Returns:
            The images, and the labels: unchanged, or with mixup or cutmix as probabilities, float (B, num_classes).
        """
        if self.cutout:
            x = cutout(x, self.cutout)
        if self.mixup or self.cutmix:
            targets = F.one_hot(labels, num_classes).to(x.dtype)
            if self.mixup and not (self.cutmix and torch.rand(()) < 0.5):
                return mixup(x, targets, self.mixup)
            return cutmix(x, targets, self.cutmix)
        return x, labels


def shift_and_flip(images: Tensor, shift: int, mirrored: Tensor | None = None, border: str = "zero") -> Tensor:
    """Shift each image by up to ``shift`` pixels and mirror some, in one gather: (B, H, W, C) -> same."""
    b, h, w, c = images.shape
    device = images.device
    if border == "reflect" and shift >= min(h, w):  # there are no more pixels to reflect
        raise ZooError(f"data.augment.shift={shift} with border=reflect: images of {h}×{w} px allow {min(h, w) - 1}")
    if border == "zero" and shift:
        images = F.pad(images, (0, 0, shift, shift, shift, shift))
    padding = shift if border == "zero" else 0
    top, left = torch.randint(-shift, shift + 1, (2, b, 1), device=device) + padding
    rows, columns = torch.arange(h, device=device) + top, torch.arange(w, device=device) + left  # (B, H), (B, W)
    if border == "reflect":  # 3 2 1 | 0 1 2 3 … : the edge pixel is not repeated
        rows, columns = (n - 1 - (n - 1 - i.abs()).abs() for n, i in ((h, rows), (w, columns)))
    if mirrored is not None:
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    height, width = h + 2 * padding, w + 2 * padding
    rows = rows + torch.arange(b, device=device)[:, None] * height
    return images.view(-1, c)[(rows * width)[:, :, None] + columns[:, None, :]]


def warp(images: Tensor, degrees: float, zoom: float, elastic: float) -> Tensor:
    """Rotate by up to ±``degrees``, scale by 1 ± ``zoom``, and distort elastically; bilinear, (B, H, W, C) -> same."""
    b, height, width, _ = images.shape
    angle = (torch.rand(b, device=images.device) * 2 - 1) * torch.pi / 180 * degrees
    scale = 1 + (torch.rand(b, device=images.device) * 2 - 1) * zoom
    cos, sin, zero = angle.cos() / scale, angle.sin() / scale, torch.zeros_like(angle)
    theta = torch.stack([cos, -sin, zero, sin, cos, zero], dim=1).view(b, 2, 3)
    x = images.permute(0, 3, 1, 2).float()  # (B, C, H, W)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)  # (B, H, W, 2), −1 to 1
    if elastic:
        # independent at knots a quarter of the image apart, smooth between them; the grid's unit is half a side
        coarse = torch.randn(b, 2, 5, 5, device=images.device) * 2 * elastic
        field = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
        grid = grid + field.permute(0, 2, 3, 1) / grid.new_tensor([width, height])
    x = F.grid_sample(x, grid, align_corners=False)
    return x.round_().to(torch.uint8).permute(0, 2, 3, 1)


def jitter_colour(images: Tensor, amount: float) -> Tensor:
    """Scale brightness, contrast (about the image's mean grey) and saturation (about each pixel's grey) by 1 ± amount.

    (B, H, W, C) -> same; saturation does not change an image of one channel.
    """
    brightness, contrast, saturation = 1 + (torch.rand(3, len(images), 1, 1, 1, device=images.device) * 2 - 1) * amount
    x = images.float() * brightness
    grey = luminance(x)
    x = (x - grey) * saturation + grey  # does not change a pixel's grey
    mean = grey.mean(dim=(1, 2, 3), keepdim=True)
    return ((x - mean) * contrast + mean).round_().clamp_(0, 255).to(torch.uint8)


def luminance(x: Tensor) -> Tensor:
    """The grey value of each pixel, (B, H, W, C) -> (B, H, W, 1), with the weights of ITU-R BT.601."""
    if x.shape[-1] != 3:
        return x.mean(-1, keepdim=True)
    return (x * torch.tensor([0.299, 0.587, 0.114], device=x.device)).sum(-1, keepdim=True)


def inside(size: int, start: Tensor, length: Tensor | int) -> Tensor:
    """For each of B starts (B,), which of ``size`` positions lie in [start, start + length): bool (B, size)."""
    i = torch.arange(size, device=start.device)
    return (i >= start[:, None]) & (i < (start + length)[:, None])


def cutout(x: Tensor, side: int) -> Tensor:
    """Set a square in each image to 0, whose centre may be anywhere in the image: (B, C, H, W) -> same."""
    b, _, h, w = x.shape
    top = torch.randint(0, h, (b,), device=x.device) - side // 2
    left = torch.randint(0, w, (b,), device=x.device) - side // 2
    hole = inside(h, top, side)[:, None, :, None] & inside(w, left, side)[:, None, None, :]  # (B, 1, H, W)
    return x.masked_fill(hole, 0.0)


def mixup(x: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """λ · image + (1 − λ) · another image of the batch, and likewise for the targets, with λ ~ Beta(α, α) per image.

    (B, C, H, W), (B, classes) -> same.
    """
    weight = torch.distributions.Beta(alpha, alpha).sample((len(x),)).to(x.device)
    other = torch.randperm(len(x), device=x.device)
    return x.lerp(x[other], 1 - weight[:, None, None, None]), targets.lerp(targets[other], 1 - weight[:, None])


def cutmix(x: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Replace a rectangle with a share 1 − λ of each image's area by that of another image, with λ ~ Beta(α, α).

    The rectangle is cut off at the image's border; the targets are averaged in proportion to the pixels that were
    really replaced. (B, C, H, W), (B, classes) -> same.
    """
    b, _, h, w = x.shape
    share = (1 - torch.distributions.Beta(alpha, alpha).sample((b,)).to(x.device)).sqrt()  # of each side's length
    height, width = (share * h).round().long(), (share * w).round().long()
    top = torch.randint(0, h, (b,), device=x.device) - height // 2
    left = torch.randint(0, w, (b,), device=x.device) - width // 2
    patch = inside(h, top, height)[:, None, :, None] & inside(w, left, width)[:, None, None, :]  # (B, 1, H, W)
    other = torch.randperm(b, device=x.device)
    weight = patch.float().mean(dim=(2, 3))  # (B, 1)
    return torch.where(patch, x[other], x), targets.lerp(targets[other], weight)
