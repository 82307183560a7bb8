"""Generative adversarial networks (lecture 16.7): a generator makes images from noise, and a discriminator tells them
from real images.

This file has the fully connected pair (Goodfellow et al. 2014); ``zoo.models.dcgan`` has the convolutional one. In a
conditional pair both networks also get the class (Mirza & Osindero 2014). Pixels are in [0, 1] outside of the networks
and in [−1, 1] inside. ``zoo.tasks.adversarial`` trains the pair, or any other model with ``generate`` and ``judge``.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.arguments import Positive, Probability


class Generator(nn.Sequential):
    """Fully connected layers from noise (B, latent), with classes (B,) if conditional, to images; see ``GAN``."""

    def __init__(
        self, shape: tuple[int, int, int], latent: Positive, hidden: Sequence[Positive], num_classes: int | None
    ):
        super().__init__()
        self.shape, self.num_classes = shape, num_classes
        width = latent + (num_classes or 0)
        for i, units in enumerate(hidden, 1):
            self.add_module(f"fc{i}", nn.Linear(width, units))
            self.add_module(f"act{i}", nn.LeakyReLU(0.2))
            width = units
        self.add_module("head", nn.Linear(width, shape[0] * shape[1] * shape[2]))

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:  # type: ignore[override]
        x = super().forward(with_class(z, labels, self.num_classes))  # (B, C·H·W)
        return x.unflatten(1, self.shape).tanh() / 2 + 0.5


class Discriminator(nn.Sequential):
    """Fully connected layers from images, with classes (B,) if conditional, to log-odds (B,); see ``GAN``."""

    def __init__(self, pixels: int, hidden: Sequence[Positive], dropout: Probability, num_classes: int | None):
        super().__init__()
        self.num_classes = num_classes
        width = pixels + (num_classes or 0)
        for i, units in enumerate(hidden, 1):
            self.add_module(f"fc{i}", nn.Linear(width, units))
            self.add_module(f"act{i}", nn.LeakyReLU(0.2))
            self.add_module(f"drop{i}", nn.Dropout(dropout))
            width = units
        self.add_module("head", nn.Linear(width, 1))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:  # type: ignore[override]
        return super().forward(with_class(x.flatten(1) * 2 - 1, labels, self.num_classes)).squeeze(1)


def with_class(x: Tensor, labels: Tensor | None, num_classes: int | None) -> Tensor:
    """Append one-hot classes to rows (B, N), giving (B, N + num_classes); num_classes=None leaves them unchanged."""
    if num_classes is None:
        return x
    assert labels is not None
    return torch.cat([x, F.one_hot(labels, num_classes).to(x.dtype)], 1)


def given(labels: Tensor | None, x: Tensor, num_classes: int | None) -> Tensor | None:
    """The labels; class 0 for all of x if a conditional network needs labels and none are given."""
    return torch.zeros(len(x), dtype=torch.int64, device=x.device) if labels is None and num_classes else labels


def drawn(model: Any, n: int, generator: torch.Generator | None, labels: Tensor | None) -> Tensor:
    """Draw n images from a pair; see ``GAN.sample``."""
    device = next(model.parameters()).device
    if model.num_classes is not None and labels is None:
        labels = torch.arange(n) % model.num_classes
    return model.generate(model.noise(n, generator).to(device), None if labels is None else labels.to(device))


class GAN(nn.Module):
    """A generator and a discriminator of fully connected layers.

    Args:
        in_channels, image_size: shape of the images.
        latent: size of the noise vector.
        hidden: widths of the generator's hidden layers; the discriminator has them in reverse.
        dropout: dropout on the discriminator's hidden units.
        num_classes: number of classes; only used if conditional.
        conditional: append the one-hot class to the input of both networks.
    """

    def __init__(
        self,
        in_channels: int = 1,
        image_size: int = 28,
        latent: Positive = 100,
        hidden: Sequence[Positive] = (256, 512, 1024),
        dropout: Probability = 0.3,
        num_classes: int = 10,
        conditional: bool = False,
    ):
        super().__init__()
        self.latent, self.num_classes = latent, num_classes if conditional else None
        shape = in_channels, image_size, image_size
        self.generator = Generator(shape, latent, hidden, self.num_classes)
        self.discriminator = Discriminator(in_channels * image_size**2, hidden[::-1], dropout, self.num_classes)

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Noise (B, latent), and classes (B,) if conditional, to images (B, C, H, W) with pixels in (0, 1)."""
        return self.generator(z, labels)

    def judge(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W), and classes (B,) if conditional, to the log-odds (B,) that they are real; a Wasserstein
        critic gives its score instead.
        """
        return self.discriminator(x, labels)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """The discriminator's output (B,) for images; a conditional one takes class 0 if no labels are given."""
        return self.judge(x, given(labels, x, self.num_classes))

    def noise(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Noise vectors for n images, (n, latent), from N(0, I)."""
        return torch.randn(n, self.latent, generator=generator)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None, labels: Tensor | None = None) -> Tensor:
        """Draw images (n, C, H, W); a conditional network without labels takes the classes in turn."""
        return drawn(self, n, generator, labels)
