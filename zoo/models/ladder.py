"""The ladder network: a classifier whose every layer is also to be found again from a noisy copy (16.7).

Rasmus et al. 2015, "Semi-Supervised Learning with Ladder Networks", section 3 and algorithm 1. Of each image the
encoder makes layers z from the clean image and z̃ with noise in every layer; a decoder goes back down from the noisy
top, and at each layer guesses the clean z from z̃ and from what comes from above. How far off it is needs no labels.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ZooError

EPSILON = 1e-5  # added to variances


class Ladder(nn.Module):
    """Fully connected layers with batch norm, noise and, for training, a decoder.

    Args:
        num_classes: the last layer's units.
        in_channels, image_size: the input is flattened, D = in_channels × image_size² numbers in [0, 1].
        hidden: widths of the layers between.
        noise: standard deviation of what is added to the input and to every normalised layer.
        costs: λ of each layer's distance, the input's first; as many as ``hidden`` and two more.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int = 28,
        hidden: Sequence[int] = (1000, 500, 250, 250, 250),
        noise: float = 0.3,
        costs: Sequence[float] = (1000.0, 10.0, 0.1, 0.1, 0.1, 0.1, 0.1),
    ):
        super().__init__()
        if num_classes < 1 or len(costs) != len(hidden) + 2 or noise < 0:
            raise ZooError(
                f"num_classes={num_classes}, noise={noise} and {len(costs)} costs are not valid: a ladder needs "
                f"classes, noise of 0 or more, and with {len(hidden)} hidden layers {len(hidden) + 2} costs"
            )
        widths = [in_channels * image_size**2, *hidden, num_classes]
        self.noise, self.costs = noise, list(costs)
        # biases come after the noise, so they are not the linear layers'
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise(widths[:-1]))
        self.head = nn.Linear(widths[-2], num_classes, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width, EPSILON, affine=False) for width in widths[1:])
        self.biases = nn.ParameterList(torch.zeros(width) for width in widths[1:])  # β
        self.scale = nn.Parameter(torch.ones(num_classes))  # γ; before a ReLU it would say nothing new
        self.decoder = nn.ModuleList(nn.Linear(b, a, bias=False) for a, b in pairwise(widths))
        start = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0]).repeat(2)[:, None]
        self.guesses = nn.ParameterList(start.repeat(1, width) for width in widths)  # a₁ … a₁₀ of every unit
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=part.in_features**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, num_classes), without noise."""
        h = x.flatten(1)
        for i, layer in enumerate([*self.layers, self.head]):
            h = self.activate(self.norms[i](layer(h).float()), i)
        return h

    def activate(self, z: Tensor, i: int) -> Tensor:
        """What layer i, from 0, hands on: ReLU(z + β), and of the last γ (z + β), the logits."""
        z = z + self.biases[i]
        return self.scale * z if i == len(self.layers) else z.relu()

    def corrupted(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Layers with noise z̃, the input's first, (B, width) each; and the logits. Normalised over the batch."""
        h = x.flatten(1)
        h = h + self.noise * torch.randn_like(h)
        found = [h]
        for i, layer in enumerate([*self.layers, self.head]):
            z, _, _ = normalised(layer(h).float())
            found.append(z + self.noise * torch.randn_like(z))
            h = self.activate(found[-1], i)
        return found, h

    def clean(self, x: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Layers without noise z (B, width), the input's first, with the batch's mean and deviation of each."""
        h = x.flatten(1)
        found = [(h, torch.zeros_like(h[0]), torch.ones_like(h[0]))]
        for i, layer in enumerate([*self.layers, self.head]):
            before = layer(h).float()
            if self.training:
                self.norms[i](before)  # for its running averages, which evaluation goes by
            found.append(normalised(before))
            h = self.activate(found[-1][0], i)
        return found

    def reconstruction_cost(self, x: Tensor) -> Tensor:
        """Σ_l λ_l ‖z⁽ˡ⁾ − ẑ⁽ˡ⁾‖² / width, mean over the batch: images (B, C, H, W) to () (equation 9)."""
        noisy, logits = self.corrupted(x)
        total = logits.new_zeros(())
        clean, estimate = self.clean(x), logits.softmax(1)
        for i in reversed(range(len(noisy))):
            above = estimate if i == len(noisy) - 1 else self.decoder[i](estimate).float()
            estimate = guess(noisy[i], normalised(above)[0], self.guesses[i])
            z, mean, deviation = clean[i]
            total = total + self.costs[i] * F.mse_loss((estimate - mean) / deviation, z)
        return total


def normalised(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Units with mean 0 and variance 1 over the batch, (B, width); and what their mean and deviation were, (width,)."""
    variance, mean = torch.var_mean(z, 0, correction=0)
    deviation = (variance + EPSILON).sqrt()
    return (z - mean) / deviation, mean, deviation


def guess(noisy: Tensor, above: Tensor, a: Tensor) -> Tensor:
    """ẑ = (z̃ − μ(u)) υ(u) + μ(u), where both are a₁ σ(a₂ u + a₃) + a₄ u + a₅ of a unit (equations 1 and 2)."""
    mu, share = (p[0] * torch.sigmoid(p[1] * above + p[2]) + p[3] * above + p[4] for p in (a[:5], a[5:]))
    return (noisy - mu) * share + mu
