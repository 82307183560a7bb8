"""The variational autoencoder (Kingma & Welling 2014; lecture 16.7): an encoder gives a distribution over codes.

q(z|x) is Gaussian with the mean and variances that the encoder gives, p(z) is N(0, I), and p(x|z) has independent
Bernoulli pixels with the probabilities that the decoder gives. Training maximises the bound in
``zoo.tasks.variational``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.arguments import Positive
from zoo.errors import ZooError
from zoo.layers import Init, initialise, make_activation


class VAE(nn.Module):
    """A fully connected VAE, or a convolutional one if ``channels`` are given.

    Args:
        in_channels, image_size: shape of the images, with pixels in [0, 1].
        hidden: widths of the encoder's fully connected layers; the decoder has them in reverse.
        channels: feature maps of convolutional stages before those layers; each stage halves the image size. Empty for
            a fully connected model.
        latent: size of the code.
        activation: activation of all hidden layers, a name from ``zoo.layers.ACTIVATIONS``.
        init: initial weights of the layers before an activation, "he" or "torch"; see ``zoo.layers.initialise``.
    """

    def __init__(
        self,
        in_channels: int = 1,
        image_size: int = 28,
        hidden: Sequence[Positive] = (500, 500),
        channels: Sequence[Positive] = (),
        latent: Positive = 50,
        activation: str = "tanh",
        init: Init = "he",
    ):
        super().__init__()
        side, odd = divmod(image_size, 2 ** len(channels))
        if odd or not side:
            raise ZooError(f"channels has {len(channels)} stages, and {image_size} px cannot be halved so often")
        self.latent = latent
        maps = [in_channels, *channels]
        shape = (maps[-1], side, side)
        widths = [maps[-1] * side**2, *hidden]
        self.encoder, self.decoder = nn.Sequential(), nn.Sequential()
        for i in range(len(channels)):
            self.encoder.add_module(f"conv{i + 1}", nn.Conv2d(maps[i], maps[i + 1], 4, stride=2, padding=1))
            self.encoder.add_module(f"conv_act{i + 1}", make_activation(activation))
        self.encoder.add_module("flatten", nn.Flatten())
        for i in range(len(hidden)):
            self.encoder.add_module(f"fc{i + 1}", nn.Linear(widths[i], widths[i + 1]))
            self.encoder.add_module(f"act{i + 1}", make_activation(activation))
        self.encoder.add_module("code", nn.Linear(widths[-1], 2 * latent))  # mean, log variance
        widths = [latent, *reversed(widths)]
        for i in range(len(widths) - 1):
            if i:
                self.decoder.add_module(f"act{i}", make_activation(activation))
            self.decoder.add_module(f"fc{i + 1}", nn.Linear(widths[i], widths[i + 1]))
        self.decoder.add_module("unflatten", nn.Unflatten(1, shape))
        for i in reversed(range(len(channels))):
            self.decoder.add_module(f"conv_act{i + 1}", make_activation(activation))
            self.decoder.add_module(f"conv{i + 1}", nn.ConvTranspose2d(maps[i + 1], maps[i], 4, stride=2, padding=1))
        before_activations = [part for part in self.decoder if isinstance(part, (nn.Linear, nn.ConvTranspose2d))][:-1]
        initialise([*self.encoder[:-1], *before_activations], init, activation)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and the log variance of q(z|x): images (B, C, H, W) to (B, latent) each."""
        mean, log_variance = self.encoder(x).chunk(2, 1)
        return mean, log_variance

    def encode(self, x: Tensor) -> Tensor:
        """The mean of q(z|x): images (B, C, H, W) to codes (B, latent)."""
        return self.posterior(x)[0]

    def logits(self, z: Tensor) -> Tensor:
        """The log-odds of the pixels under p(x|z): codes (B, latent) to (B, C, H, W)."""
        return self.decoder(z)

    def decode(self, z: Tensor) -> Tensor:
        """The mean pixels under p(x|z), in (0, 1): codes (B, latent) to images (B, C, H, W)."""
        return self.logits(z).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """The reconstruction of images from the means of their codes, (B, C, H, W)."""
        return self.decode(self.encode(x))

    def noise(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Codes drawn from p(z), (n, latent)."""
        return torch.randn(n, self.latent, generator=generator)

    def generate(self, noise: Tensor) -> Tensor:
        """The same as ``decode``: codes (B, latent) to images (B, C, H, W)."""
        return self.decode(noise)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Mean pixels for codes drawn from p(z): images (n, C, H, W)."""
        return self.generate(self.noise(n, generator).to(next(self.parameters()).device))
