"""Generative adversarial networks: a generator that makes images of noise, and a discriminator that judges them (16.7).

Goodfellow et al. 2014 with fully connected networks, and DCGAN (Radford et al. 2016) with convolutions; where they are
``conditional`` both see the class (Mirza & Osindero 2014). Pixels are in [0, 1] outside, in [−1, 1] inside. The game
that the two play, and the Wasserstein one, is ``zoo.tasks.adversarial``, which takes any pair of modules that has
``generate`` and ``judge``.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.arguments import Positive, Probability
from zoo.errors import ZooError


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


class DCGenerator(nn.Module):
    """Noise, and an embedded class beside it, to images: each stage doubles the image; see ``DCGAN``.

    Args:
        maps: of the stages, from the image inwards.
        side: height and width of the first maps.
        codes: an embedding of the classes, as wide as the noise, where it is conditional.
    """

    def __init__(self, in_channels: int, latent: Positive, maps: Sequence[int], side: int, codes: nn.Embedding | None):
        super().__init__()
        self.stages, self.first = len(maps), (maps[-1], side, side)
        width = latent if codes is None else 2 * latent
        self.fc = nn.Linear(width, maps[-1] * side**2, bias=False)
        for i in reversed(range(self.stages)):
            self.add_module(f"norm{i}", nn.BatchNorm2d(maps[i]))
            out = maps[i - 1] if i else in_channels
            self.add_module(f"conv{i}", nn.ConvTranspose2d(maps[i], out, 4, 2, 1, bias=i == 0))
        self.class_codes = codes

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.class_codes is not None:
            z = torch.cat([z, self.class_codes(labels)], 1)
        x = self.fc(z).unflatten(1, self.first)  # (B, maps, side, side)
        for i in reversed(range(self.stages)):
            x = F.relu(self.get_submodule(f"norm{i}")(x))
            x = self.get_submodule(f"conv{i}")(x)  # half as many maps, twice the side
        return x.tanh() / 2 + 0.5


class DCDiscriminator(nn.Module):
    """Images to log-odds (B,): each stage halves the image; the class is matched with the last features; see ``DCGAN``.

    Args:
        maps, side: as of the generator.
        norm: "batch" or "none".
        matches: an embedding of the classes, as wide as the last maps, where it is conditional.
    """

    def __init__(self, in_channels: int, maps: Sequence[int], side: int, norm: str, matches: nn.Embedding | None):
        super().__init__()
        self.stages = len(maps)
        for i in range(self.stages):
            normed = norm == "batch" and i > 0  # no norm on the first (the paper's section 3)
            before = maps[i - 1] if i else in_channels
            self.add_module(f"conv{i}", nn.Conv2d(before, maps[i], 4, 2, 1, bias=not normed))
            self.add_module(f"norm{i}", nn.BatchNorm2d(maps[i]) if normed else nn.Identity())
        self.class_matches = matches
        self.head = nn.Linear(maps[-1] * side**2, 1)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        x = x * 2 - 1
        for i in range(self.stages):
            x = self.get_submodule(f"conv{i}")(x)  # twice as many maps, half the side
            x = F.leaky_relu(self.get_submodule(f"norm{i}")(x), 0.2)
        score = self.head(x.flatten(1)).squeeze(1)
        if self.class_matches is not None:
            score = score + (self.class_matches(labels) * x.sum((2, 3))).sum(1)
        return score


def init(model: nn.Module) -> None:
    """Weights from N(0, 0.02²), scales of norms from N(1, 0.02²) (Radford et al. 2016, section 4); class matches 0."""
    named = list(model.named_parameters())
    late = ("generator.class_codes", "discriminator.class_matches", "discriminator.head")
    named.sort(key=lambda pair: pair[0].startswith(late))  # the order in which published runs drew them
    for name, p in named:
        if name.startswith("discriminator.class_matches"):
            nn.init.zeros_(p)
        elif p.ndim > 1:
            nn.init.normal_(p, std=0.02)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, 0.02)


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


class DCGAN(nn.Module):
    """A pair of convolutional networks: each stage doubles, or halves, the image (Radford et al. 2016, section 3).

    Differs from the paper for small images: as many stages as take 4, or 7, px to the image's size. Where it is
    conditional, the class is an embedding beside the noise, and for the discriminator one that is multiplied with its
    last features (Miyato & Koyama 2018).

    Args:
        in_channels, image_size: of the images; image_size is 4 or 7 times a power of 2.
        latent: numbers of the noise.
        channels: maps of the generator's last hidden stage; each before it has twice as many.
        norm: of the discriminator: "batch", or "none", as a critic with a gradient penalty needs it (Gulrajani et al.
            2017, section 4). The generator has batch norm.
        num_classes, conditional: see ``GAN``.
    """

    def __init__(
        self,
        in_channels: int = 1,
        image_size: int = 28,
        latent: Positive = 100,
        channels: Positive = 64,
        norm: str = "batch",
        num_classes: int = 10,
        conditional: bool = False,
    ):
        super().__init__()
        side, stages = image_size, 0
        while side > 7 and side % 2 == 0:
            side, stages = side // 2, stages + 1
        if side not in (4, 7):
            raise ZooError(f"image_size={image_size} is not valid: DCGAN makes 4 or 7 px times a power of 2")
        if norm not in ("batch", "none"):
            raise ZooError(f"norm={norm} is unknown; valid: batch, none")
        self.latent, self.num_classes = latent, num_classes if conditional else None
        maps = [channels * 2**i for i in range(stages)]  # from the image inwards
        codes = nn.Embedding(num_classes, latent) if conditional else None
        matches = nn.Embedding(num_classes, maps[-1]) if conditional else None
        self.generator = DCGenerator(in_channels, latent, maps, side, codes)
        self.discriminator = DCDiscriminator(in_channels, maps, side, norm, matches)
        init(self)

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
