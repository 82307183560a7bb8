"""DCGAN: generative adversarial networks with convolutions (lecture 16.7).

Radford et al. 2016, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks",
section 3. Pixels are in [0, 1] outside of the networks and in [−1, 1] inside. ``zoo.tasks.adversarial`` trains them.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.arguments import Positive
from zoo.errors import ZooError
from zoo.models.gan import drawn, given


class DCGenerator(nn.Module):
    """From noise, with an embedding of the class if conditional, to images; each stage doubles height and width.

    Args:
        in_channels, latent: see ``DCGAN``.
        maps: feature maps of the stages, from the one next to the image to the one next to the noise.
        side: height and width of the first feature maps.
        codes: embedding of the classes, as wide as the noise; None if not conditional.
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
    """From images to log-odds (B,); each stage halves height and width.

    If conditional, the inner product of a class embedding and the spatially summed last features is added to the
    output (Miyato & Koyama 2018).

    Args:
        in_channels: see ``DCGAN``.
        maps, side: as for the generator.
        norm: "batch" or "none".
        matches: embedding of the classes, with as many numbers as the last stage has feature maps; None if not
            conditional.
    """

    def __init__(self, in_channels: int, maps: Sequence[int], side: int, norm: str, matches: nn.Embedding | None):
        super().__init__()
        self.stages = len(maps)
        for i in range(self.stages):
            normed = norm == "batch" and i > 0  # none after the first convolution (section 3)
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
    """Draw the weights from N(0, 0.02²) (Radford et al. 2016, section 4) and the batch-norm scales from N(1, 0.02²);
    the discriminator's class embedding starts at 0.
    """
    named = list(model.named_parameters())
    late = ("generator.class_codes", "discriminator.class_matches", "discriminator.head")
    named.sort(key=lambda pair: pair[0].startswith(late))  # the order in which the shipped runs drew them
    for name, p in named:
        if name.startswith("discriminator.class_matches"):
            nn.init.zeros_(p)
        elif p.ndim > 1:
            nn.init.normal_(p, std=0.02)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, 0.02)


class DCGAN(nn.Module):
    """A pair of convolutional networks: each stage doubles or halves height and width (Radford et al. 2016, section 3).

    It differs from the paper in the noise, which is Gaussian instead of uniform, and in the number of stages, which
    depends on the image size: the smallest feature maps are 4×4 or 7×7. If conditional, an embedding of the class is
    appended to the noise, and the discriminator multiplies another embedding with its last features (Miyato & Koyama
    2018).

    Args:
        in_channels, image_size: shape of the images; image_size is 4 or 7 times 2, 4, 8, ….
        latent: size of the noise vector.
        channels: feature maps of the stage next to the image; each further stage has twice as many.
        norm: normalisation in the discriminator, "batch" or "none"; a critic with gradient penalty needs "none"
            (Gulrajani et al. 2017, section 4). The generator always has batch norm.
        num_classes: number of classes; only used if conditional.
        conditional: give the class to both networks, as in ``GAN``.

    Raises:
        ZooError: image_size is not 4 or 7 times a power of 2, or norm is unknown.
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
        if side not in (4, 7) or not stages:
            raise ZooError(f"image_size={image_size} is not valid: give 4 or 7 times a power of 2, 8 or more")
        if norm not in ("batch", "none"):
            raise ZooError(f"norm={norm} is unknown; valid: batch, none")
        self.latent, self.num_classes = latent, num_classes if conditional else None
        maps = [channels * 2**i for i in range(stages)]  # the stage next to the image first
        codes = nn.Embedding(num_classes, latent) if conditional else None
        matches = nn.Embedding(num_classes, maps[-1]) if conditional else None
        self.generator = DCGenerator(in_channels, latent, maps, side, codes)
        self.discriminator = DCDiscriminator(in_channels, maps, side, norm, matches)
        init(self)

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
