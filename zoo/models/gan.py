"""Generative adversarial networks: a generator that makes images of noise, and a discriminator that judges them (16.7).

Goodfellow et al. 2014 with fully connected nets, and DCGAN (Radford et al. 2016) with convolutions; where they are
``conditional`` both see the class (Mirza & Osindero 2014). Pixels are in [0, 1] outside, in [−1, 1] inside. The game
that the two play, and the Wasserstein one, is ``zoo.tasks.adversarial``.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ZooError


class GAN(nn.Module):
    """A pair of fully connected nets.

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
        latent: int = 100,
        hidden: Sequence[int] = (256, 512, 1024),
        dropout: float = 0.3,
        num_classes: int = 10,
        conditional: bool = False,
    ):
        super().__init__()
        self.shape, self.latent = (in_channels, image_size, image_size), latent
        self.num_classes = num_classes if conditional else None
        d, extra = in_channels * image_size**2, self.num_classes or 0
        self.generator, self.discriminator = nn.Sequential(), nn.Sequential()
        width = latent + extra
        for i, units in enumerate(hidden, 1):
            self.generator.add_module(f"fc{i}", nn.Linear(width, units))
            self.generator.add_module(f"act{i}", nn.LeakyReLU(0.2))
            width = units
        self.generator.add_module("head", nn.Linear(width, d))
        width = d + extra
        for i, units in enumerate(reversed(hidden), 1):
            self.discriminator.add_module(f"fc{i}", nn.Linear(width, units))
            self.discriminator.add_module(f"act{i}", nn.LeakyReLU(0.2))
            self.discriminator.add_module(f"drop{i}", nn.Dropout(dropout))
            width = units
        self.discriminator.add_module("head", nn.Linear(width, 1))

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Noise (B, latent), and classes (B,) where it is conditional, to images (B, C, H, W) with pixels in (0, 1)."""
        return self.generator(self.beside(z, labels)).unflatten(1, self.shape).tanh() / 2 + 0.5

    def judge(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W), and classes, to the log-odds (B,) that they are real; of a critic, its score."""
        return self.discriminator(self.beside(x.flatten(1) * 2 - 1, labels)).squeeze(1)

    def beside(self, x: Tensor, labels: Tensor | None) -> Tensor:
        if self.num_classes is None:
            return x
        return torch.cat([x, one_hot(labels, self.num_classes, x)], 1)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """The judgement of images, (B,); without classes, that of the first."""
        return self.judge(x, given(labels, x, self.num_classes))

    def noise(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """What an image is made of, (n, latent)."""
        return torch.randn(n, self.latent, generator=generator)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None, labels: Tensor | None = None) -> Tensor:
        """Images (n, C, H, W); of a conditional net of these classes, or of all in turn."""
        device = next(self.parameters()).device
        if self.num_classes is not None and labels is None:
            labels = torch.arange(n) % self.num_classes
        return self.generate(self.noise(n, generator).to(device), None if labels is None else labels.to(device))


class DCGAN(nn.Module):
    """A pair of convolutional nets: each stage doubles, or halves, the image (Radford et al. 2016, section 3).

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
        latent: int = 100,
        channels: int = 64,
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
        self.generator, self.discriminator = nn.Sequential(), nn.Sequential()
        first = (maps[-1], side, side)
        extra = 0
        if self.num_classes is not None:
            extra = latent
            self.class_codes = nn.Embedding(self.num_classes, latent)  # for the generator
            self.class_matches = nn.Embedding(self.num_classes, maps[-1])  # for the discriminator
            nn.init.zeros_(self.class_matches.weight)
        self.generator.add_module("fc", nn.Linear(latent + extra, first[0] * side**2, bias=False))
        self.generator.add_module("unflatten", nn.Unflatten(1, first))
        for i in reversed(range(stages)):
            self.generator.add_module(f"norm{i}", nn.BatchNorm2d(maps[i]))
            self.generator.add_module(f"act{i}", nn.ReLU())
            out = maps[i - 1] if i else in_channels
            self.generator.add_module(f"conv{i}", nn.ConvTranspose2d(maps[i], out, 4, 2, 1, bias=i == 0))
        for i in range(stages):
            bias = norm == "none" or i == 0  # no norm on the first (the paper's section 3)
            before = maps[i - 1] if i else in_channels
            self.discriminator.add_module(f"conv{i}", nn.Conv2d(before, maps[i], 4, 2, 1, bias=bias))
            if not bias:
                self.discriminator.add_module(f"norm{i}", nn.BatchNorm2d(maps[i]))
            self.discriminator.add_module(f"act{i}", nn.LeakyReLU(0.2))
        self.head = nn.Linear(maps[-1] * side**2, 1)
        for name, p in self.named_parameters():  # the paper's section 4
            if p.ndim > 1 and not name.startswith("class_matches"):
                nn.init.normal_(p, std=0.02)
        for part in self.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.normal_(part.weight, 1.0, 0.02)

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Noise (B, latent), and classes (B,) where it is conditional, to images (B, C, H, W) with pixels in (0, 1)."""
        if self.num_classes is not None:
            z = torch.cat([z, self.class_codes(labels)], 1)
        return self.generator(z).tanh() / 2 + 0.5

    def judge(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W), and classes, to the log-odds (B,) that they are real; of a critic, its score."""
        features = self.discriminator(x * 2 - 1)  # (B, maps, side, side)
        score = self.head(features.flatten(1)).squeeze(1)
        if self.num_classes is not None:
            score = score + (self.class_matches(labels) * features.sum((2, 3))).sum(1)
        return score

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """The judgement of images, (B,); without classes, that of the first."""
        return self.judge(x, given(labels, x, self.num_classes))

    def noise(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """What an image is made of, (n, latent)."""
        return torch.randn(n, self.latent, generator=generator)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None, labels: Tensor | None = None) -> Tensor:
        """Images (n, C, H, W); of a conditional net of these classes, or of all in turn."""
        device = next(self.parameters()).device
        if self.num_classes is not None and labels is None:
            labels = torch.arange(n) % self.num_classes
        return self.generate(self.noise(n, generator).to(device), None if labels is None else labels.to(device))


def one_hot(labels: Tensor | None, num_classes: int, like: Tensor) -> Tensor:
    assert labels is not None
    return F.one_hot(labels, num_classes).to(like.dtype)


def given(labels: Tensor | None, x: Tensor, num_classes: int | None) -> Tensor | None:
    """The labels, or where a net needs some and has none, class 0."""
    return torch.zeros(len(x), dtype=torch.int64, device=x.device) if labels is None and num_classes else labels
