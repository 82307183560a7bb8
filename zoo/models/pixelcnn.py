"""The gated PixelCNN: a distribution over images from convolutions that see earlier pixels only (lecture 16.7).

van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders", section 2. A vertical stack of layers
sees the rows above; a horizontal stack sees the pixels to the left and, through the vertical stack, the rows above, so
there is no blind spot. Pixels are binary with one channel, and the outputs are their log-odds. The paper masks kernels;
here a kernel has only the size of its unmasked part, and the image is padded accordingly: the function is the same.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.arguments import Positive
from zoo.errors import ZooError
from zoo.models.made import bernoulli


class Gated(nn.Module):
    """A layer of both stacks, each with y = tanh(W x) ⊙ σ(V x) (equation 2, figure 2).

    Args:
        before, channels: numbers of input and output feature maps.
        kernel: odd kernel size k. The vertical stack sees k columns of the current row and of the (k − 1)/2 rows above;
            its output, shifted down by one row, is passed to the horizontal stack, which sees the current pixel and the
            (k − 1)/2 pixels to its left.
        first: whether this is the first layer: its horizontal stack does not see the current pixel, and has no residual
            connection.
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
        v = self.vertical(F.pad(vertical, (reach, reach, reach, 0)))  # (B, 2C, H, W); sees this row and those above
        above = F.pad(v, (0, 0, 1, 0))[:, :, :-1]  # shifted down: each row gets the output of the row above
        h = self.horizontal(F.pad(horizontal, (reach, 0, 0, 0)))[..., :width] + self.down(above)
        new = self.out(gate(h))
        return gate(v), new if self.first else horizontal + new


def gate(x: Tensor) -> Tensor:
    """tanh of the first half of the feature maps times σ of the second half: (B, 2C, H, W) -> (B, C, H, W)."""
    a, b = x.chunk(2, 1)
    return torch.tanh(a) * torch.sigmoid(b)


class PixelCNN(nn.Module):
    """A distribution over images of binary pixels.

    Args:
        in_channels, image_size: shape of the images; in_channels must be 1.
        channels: feature maps of each stack.
        depth: number of gated layers after the first.
        kernel: odd kernel size of these layers; that of the first layer is 7.
    """

    def __init__(
        self, in_channels: int = 1, image_size: int = 28, channels: Positive = 32, depth: Positive = 7, kernel: int = 5
    ):
        super().__init__()
        if in_channels != 1 or kernel % 2 == 0:
            raise ZooError(f"in_channels={in_channels}, kernel={kernel}: give in_channels=1 and an odd kernel")
        self.shape = (in_channels, image_size, image_size)
        self.first = Gated(in_channels, channels, 7, first=True)
        self.layers = nn.ModuleList(Gated(channels, channels, kernel) for _ in range(depth))
        self.hidden = nn.Conv2d(channels, channels, 1)
        self.head = nn.Conv2d(channels, in_channels, 1)

    def logits(self, x: Tensor) -> Tensor:
        """The log-odds of each pixel given those before it, row by row: (B, 1, H, W) to the same shape."""
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
        """Uniform random numbers for n samples, one per pixel: (n, H·W)."""
        return torch.rand(n, self.shape[1] * self.shape[2], generator=generator)

    @torch.no_grad()
    def generate(self, noise: Tensor, progress: Callable[[int, int], None] | None = None) -> Tensor:
        """Images of 0 and 1, drawn pixel by pixel: noise (B, H·W) to (B, 1, H, W).

        Args:
            progress: called after every row, with the number of pixels done and the total number.
        """
        _, height, width = self.shape
        noise = noise.view(-1, 1, height, width)
        x = torch.zeros_like(noise)
        for row in range(height):
            for column in range(width):  # the rows below have no influence, so they are left out
                chance = self.logits(x[:, :, : row + 1])[:, :, row, column].sigmoid()
                x[:, :, row, column] = (noise[:, :, row, column] < chance).to(x.dtype)
            if progress:
                progress((row + 1) * width, height * width)
        return x

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Samples: images of 0 and 1, (n, 1, H, W)."""
        return self.generate(self.noise(n, generator).to(self.head.weight.device))
