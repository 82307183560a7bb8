"""The ladder network: a classifier that also learns to remove noise from each of its layers (lecture 16.7).

Rasmus et al. 2015, "Semi-Supervised Learning with Ladder Networks", section 3 and algorithm 1. One encoder runs twice:
the clean pass gives layers z, the noisy pass, with noise in every layer, z̃. A decoder goes back down from the noisy
top, and estimates each clean z from z̃ and from the layer above. The distance between z and its estimate is a cost that
needs no labels.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.arguments import Positive
from zoo.errors import ZooError

EPSILON = 1e-5  # added to variances


class Noise(nn.Module):
    """Adds Gaussian noise to a tensor of any shape, in training mode only."""

    def __init__(self, deviation: float):
        super().__init__()
        self.deviation = deviation

    def forward(self, z: Tensor) -> Tensor:
        return z + self.deviation * torch.randn_like(z) if self.training else z


class Layer(nn.Module):
    """A linear layer, batch norm and ReLU(z + β); the last layer gives logits γ (z + β) instead. In the noisy pass,
    noise is added after batch norm.
    """

    def __init__(self, below: int, width: int, noise: float, last: bool = False):
        super().__init__()
        self.linear = nn.Linear(below, width, bias=False)
        self.norm = nn.BatchNorm1d(width, EPSILON, affine=False)
        self.noise = Noise(noise)
        self.bias = nn.Parameter(torch.zeros(width))  # β
        self.scale = nn.Parameter(torch.ones(width)) if last else None  # γ; before a ReLU it is redundant
        nn.init.normal_(self.linear.weight, std=below**-0.5)

    def forward(self, h: Tensor) -> Tensor:
        """(B, below) to (B, width)."""
        return self.activate(self.norm(self.linear(h).float()))

    def normalised(self, z: Tensor) -> Tensor:
        """``norm`` of z (B, width), without updating its running averages."""
        return normalised(z) if self.norm.training else self.norm(z)

    def mean_and_deviation(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The mean that ``norm`` subtracts from z (B, width) and the deviation that it divides by, (width,) each."""
        if self.norm.training:
            mean = z.mean(0)
            return mean, ((z - mean).square().mean(0) + EPSILON).sqrt()
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None
        assert variance is not None
        return mean, (variance + EPSILON).sqrt()

    def activate(self, z: Tensor) -> Tensor:
        """The layer's output for a normalised z (B, width)."""
        return (z + self.bias).relu() if self.scale is None else self.scale * (z + self.bias)


class Denoise(nn.Module):
    """The denoising function ẑ = g(z̃, u) = (z̃ − μ(u)) υ(u) + μ(u), where u is the normalised signal from the layer
    above; μ and υ are each a₁ σ(a₂ u + a₃) + a₄ u + a₅ with separate parameters for every unit (equations 1 and 2).

    Args:
        width: units of this layer.
        above: units of the layer above, whose ẑ goes through a linear layer; None at the top.
    """

    def __init__(self, width: int, above: int | None):
        super().__init__()
        self.linear = None if above is None else nn.Linear(above, width, bias=False)
        # a₁ … a₅ of μ, then of υ, each for all units; one vector, because weight decay applies to matrices only
        self.a = nn.Parameter(torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0]).repeat(2).repeat_interleave(width))
        if self.linear is not None:
            nn.init.normal_(self.linear.weight, std=self.linear.in_features**-0.5)

    def forward(self, noisy: Tensor, above: Tensor) -> Tensor:
        """From z̃ (B, width) and the ẑ of the layer above (B, above) to ẑ (B, width)."""
        u = normalised((above if self.linear is None else self.linear(above)).float())
        a = self.a.view(2, 5, -1)
        mu, upsilon = (p[0] * torch.sigmoid(p[1] * u + p[2]) + p[3] * u + p[4] for p in a)
        return (noisy - mu) * upsilon + mu


def normalised(z: Tensor) -> Tensor:
    """Normalise each unit of (B, width) to mean 0 and variance 1 over the batch."""
    return F.batch_norm(z, None, None, training=True, eps=EPSILON)


class Ladder(nn.Module):
    """Fully connected layers with batch norm, noise and, for training, a decoder.

    Args:
        num_classes: units of the head; with 0 the network gives the last hidden layer's features and cannot train.
        in_channels, image_size: the input is flattened, D = in_channels × image_size² numbers in [0, 1].
        hidden: widths of the hidden layers, at least one.
        noise: standard deviation of the noise in the input and in every normalised layer, 0 or more.
        costs: the weight λ of each layer's denoising cost, the input's first; two more numbers than ``hidden`` has.

    Raises:
        ZooError: no hidden layer, negative noise, or a wrong number of costs.
    """

    heads = ("head", "decoder")  # both depend on the number of classes

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int = 28,
        hidden: Sequence[Positive] = (1000, 500, 250, 250, 250),
        noise: float = 0.3,
        costs: Sequence[float] = (1000.0, 10.0, 0.1, 0.1, 0.1, 0.1, 0.1),
    ):
        super().__init__()
        if not hidden or len(costs) != len(hidden) + 2 or noise < 0:
            raise ZooError(
                f"noise={noise}, {len(hidden)} hidden layers and {len(costs)} costs are not valid: a ladder needs "
                "noise of 0 or more, at least one hidden layer, and two more costs than hidden layers"
            )
        widths = [in_channels * image_size**2, *hidden]
        self.costs = list(costs)
        self.noise = Noise(noise)  # registered before the layers, so that freezing the first layer switches it off
        self.layers = nn.ModuleList(Layer(a, b, noise) for a, b in pairwise(widths))
        self.head, self.decoder = None, nn.ModuleList()
        if num_classes:
            self.head = Layer(widths[-1], num_classes, noise, last=True)
            self.decoder.extend(Denoise(a, b) for a, b in pairwise([*widths, num_classes]))
            self.decoder.append(Denoise(num_classes, None))

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, num_classes), without noise."""
        h = x.flatten(1)
        for layer in self.layers:
            h = layer(h)
        return h if self.head is None else self.head(h)

    def noisy(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The corrupted encoder: images (B, C, H, W) to logits (B, num_classes) and every z̃⁽ˡ⁾ (B, width), the input's
        first. A layer that is not in training mode, for example a frozen one, adds no noise and normalises with its
        running averages.
        """
        h = self.noise(x.flatten(1))
        layers = [h]
        for layer in (*self.layers, self.head):
            z = layer.noise(layer.normalised(layer.linear(h).float()))  # type: ignore[union-attr, operator]
            layers.append(z)
            h = layer.activate(z)  # type: ignore[union-attr, operator]
        return h, layers

    def clean(self, x: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The clean encoder: images (B, C, H, W) to every z⁽ˡ⁾ (B, width), the input's first, with the mean and the
        standard deviation (width,) that it was normalised with. Only this pass updates the running averages of batch
        norm, which evaluation uses.
        """
        h = x.flatten(1)
        layers = [(h, torch.zeros_like(h[0]), torch.ones_like(h[0]))]
        for layer in (*self.layers, self.head):
            before = layer.linear(h).float()  # type: ignore[union-attr, operator]
            z = layer.norm(before)  # type: ignore[union-attr, operator]
            layers.append((z, *layer.mean_and_deviation(before)))  # type: ignore[union-attr, operator]
            h = layer.activate(z)  # type: ignore[union-attr, operator]
        return layers

    def corrupted_and_cost(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """The two terms of the training loss (algorithm 1). Batch norm uses separate statistics for x and u.

        Args:
            x: images with labels, (B, C, H, W).
            u: images for the denoising cost, (N, C, H, W).

        Returns:
            The noisy logits of x, (B, num_classes), and the denoising cost of u, Σ_l λ_l ‖z⁽ˡ⁾ − ẑ⁽ˡ⁾‖² / width, as a
            mean over the batch, ().

        Raises:
            ZooError: x or u has fewer than two images.
        """
        if min(len(x), len(u)) < 2:
            raise ZooError("a ladder normalises over the batch: set data.batch_size and data.unlabelled to 2 or more")
        logits, _ = self.noisy(x)
        top, noisy = self.noisy(u)
        clean = self.clean(u)
        above, cost = top.softmax(1), top.new_zeros(())
        for i in reversed(range(len(noisy))):
            above = self.decoder[i](noisy[i], above)  # ẑ
            z, mean, deviation = clean[i]
            cost = cost + self.costs[i] * F.mse_loss((above - mean) / deviation, z)
        return logits, cost
