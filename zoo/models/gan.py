"""Generative adversarial networks: a generator makes images from noise, a discriminator judges them (lecture 16.7).

Goodfellow et al. 2014, with fully connected networks; a ``conditional`` pair also sees the class (Mirza & Osindero
2014). Pixels are in [0, 1] outside of the networks and in [−1, 1] inside. ``zoo.tasks.adversarial`` trains the pair, as
any other pair of modules with ``generate`` and ``judge``. ``zoo.models.dcgan`` has the convolutional pair.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.arguments import Positive, Probability


class Generator(nn.Sequential):
    """Noise, and a one-hot class beside it, to images, by fully connected layers; see ``GAN``."""

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
    """Images, and a one-hot class beside their pixels, to log-odds (B,), by fully connected layers; see ``GAN``."""

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
    """Rows (B, N) with their one-hot classes beside them, (B, N + num_classes), where there are classes."""
    if num_classes is None:
        return x
    assert labels is not None
    return torch.cat([x, F.one_hot(labels, num_classes).to(x.dtype)], 1)


def given(labels: Tensor | None, x: Tensor, num_classes: int | None) -> Tensor | None:
    """The labels, or where a network needs some and has none, class 0."""
    return torch.zeros(len(x), dtype=torch.int64, device=x.device) if labels is None and num_classes else labels


def drawn(model: Any, n: int, generator: torch.Generator | None, labels: Tensor | None) -> Tensor:
    """``sample`` of a pair."""
    device = next(model.parameters()).device
    if model.num_classes is not None and labels is None:
        labels = torch.arange(n) % model.num_classes
    return model.generate(model.noise(n, generator).to(device), None if labels is None else labels.to(device))


class GAN(nn.Module):
    """A pair of fully connected networks.

    Args:
        in_channels, image_size: of the images.
        latent: numbers of the noise.
        hidden: widths of the generator's layers; the discriminator has them in reverse.
        dropout: of the discriminator's hidden units.
        num_classes: how many there are, where it is conditional.
        conditional: the class goes into both, as a one-hot vector beside their input.
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
        """Noise (B, latent), and classes (B,) where it is conditional, to images (B, C, H, W) with pixels in (0, 1)."""
        return self.generator(z, labels)

    def judge(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W), and classes, to the log-odds (B,) that they are real; of a critic, its score."""
        return self.discriminator(x, labels)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """The judgement of images, (B,); without classes, that of the first."""
        return self.judge(x, given(labels, x, self.num_classes))

    def noise(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """What an image is made of, (n, latent)."""
        return torch.randn(n, self.latent, generator=generator)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None, labels: Tensor | None = None) -> Tensor:
        """Images (n, C, H, W); of a conditional network of these classes, or of all in turn."""
        return drawn(self, n, generator, labels)
