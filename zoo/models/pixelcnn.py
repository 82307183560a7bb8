"""The gated PixelCNN: a distribution over images by convolutions that see earlier pixels alone (16.7).

van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders", section 2: a vertical stack sees the
rows above, a horizontal one the pixels to the left and, through it, the rows above; so there is no blind spot. Binary
pixels of one channel, whose log-odds are the output. Where the paper masks kernels, here they are as small as what
the mask would leave, on an image that is padded: the same function.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.arguments import Positive
from zoo.errors import ZooError
from zoo.models.made import bernoulli


class Gated(nn.Module):
    """A layer of both stacks: y = tanh(W x) * σ(V x) in each (equation 2, figure 2).

    Args:
        before, channels: maps of what comes in, and of what goes out.
        kernel: k: the vertical stack sees k columns of this row and the (k − 1)/2 above, and hands the row above to
            the horizontal one, which sees this pixel and the (k − 1)/2 to the left.
        first: the horizontal stack does not see this pixel, and there is nothing yet to add to.
    """

    def __init__(self, before: int, channels: Positive, kernel: int, first: bool = False):
        super().__init__()
        self.reach, self.first = kernel // 2, first
        self.vertical = nn.Conv2d(before, 2 * channels, (self.reach + 1, kernel))
        self.down = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.horizontal = nn.Conv2d(before, 2 * channels, (1, self.reach + (not first)))
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, vertical: Tensor, horizontal: Tensor) -> tuple[Tensor, Tensor]:
        """Both stacks (B, before, H, W) to (B, channels, H, W)."""
        width, reach = vertical.shape[3], self.reach
        v = self.vertical(F.pad(vertical, (reach, reach, reach, 0)))  # (B, 2C, H, W): this row and those above
        above = F.pad(v, (0, 0, 1, 0))[:, :, :-1]  # each row of the row above it
        h = self.horizontal(F.pad(horizontal, (reach, 0, 0, 0)))[..., :width] + self.down(above)
        new = self.out(gate(h))
        return gate(v), new if self.first else horizontal + new


def gate(x: Tensor) -> Tensor:
    """tanh of the first half of the maps, times σ of the second: (B, 2C, H, W) -> (B, C, H, W)."""
    a, b = x.chunk(2, 1)
    return torch.tanh(a) * torch.sigmoid(b)


class PixelCNN(nn.Module):
    """A distribution over images of binary pixels.

    Args:
        in_channels, image_size: of the images; one channel.
        channels: maps of each stack.
        depth: gated layers after the first.
        kernel: of the layers, odd; the first has 7.
    """

    def __init__(
        self, in_channels: int = 1, image_size: int = 28, channels: Positive = 32, depth: Positive = 7, kernel: int = 5
    ):
        super().__init__()
        if in_channels != 1 or kernel % 2 == 0:
            raise ZooError(
                f"in_channels={in_channels}, kernel={kernel}: the pixels are of one channel, and kernels odd"
            )
        self.shape = (in_channels, image_size, image_size)
        self.first = Gated(in_channels, channels, 7, first=True)
        self.layers = nn.ModuleList(Gated(channels, channels, kernel) for _ in range(depth))
        self.hidden = nn.Conv2d(channels, channels, 1)
        self.head = nn.Conv2d(channels, in_channels, 1)

    def logits(self, x: Tensor) -> Tensor:
        """The log-odds of each pixel given those before it, row after row: (B, 1, H, W) to the same."""
        vertical, horizontal = self.first(x - 0.5, x - 0.5)
        for layer in self.layers:
            vertical, horizontal = layer(vertical, horizontal)
        return self.head(F.relu(self.hidden(F.relu(horizontal))))

    def forward(self, x: Tensor) -> Tensor:
        """The same as ``logits``."""
        return self.logits(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats: images of 0 and 1, (B, 1, H, W), to (B,)."""
        return bernoulli(self.logits(x), x)

    def noise(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Uniform numbers, by each of which a pixel is decided: (n, H·W)."""
        return torch.rand(n, self.shape[1] * self.shape[2], generator=generator)

    @torch.no_grad()
    def generate(self, noise: Tensor, progress: Callable[[int, int], None] | None = None) -> Tensor:
        """Images of 0 and 1, drawn pixel by pixel: noise (B, H·W) to (B, 1, H, W).

        Args:
            progress: called after every row, with the pixels done and all.
        """
        _, height, width = self.shape
        noise = noise.view(-1, 1, height, width)
        x = torch.zeros_like(noise)
        for row in range(height):
            for column in range(width):  # the rows below are of no matter, so they are left out
                chance = self.logits(x[:, :, : row + 1])[:, :, row, column].sigmoid()
                x[:, :, row, column] = (noise[:, :, row, column] < chance).to(x.dtype)
            if progress:
                progress((row + 1) * width, height * width)
        return x

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Images of 0 and 1, (n, 1, H, W)."""
        return self.generate(self.noise(n, generator).to(self.head.weight.device))
