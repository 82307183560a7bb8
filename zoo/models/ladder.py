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

from zoo.arguments import Positive
from zoo.errors import ZooError

EPSILON = 1e-5  # added to variances


class Noise(nn.Module):
    """Gaussian noise of a standard deviation, in training mode alone: any shape, as it was."""

    def __init__(self, deviation: float):
        super().__init__()
        self.deviation = deviation

    def forward(self, z: Tensor) -> Tensor:
        return z + self.deviation * torch.randn_like(z) if self.training else z


class Layer(nn.Module):
    """Linear, batch norm, and ReLU(z + β); of the head γ (z + β), the logits. Noise comes between norm and β."""

    def __init__(self, below: int, width: int, noise: float, last: bool = False):
        super().__init__()
        self.linear = nn.Linear(below, width, bias=False)
        self.norm = nn.BatchNorm1d(width, EPSILON, affine=False)
        self.noise = Noise(noise)
        self.bias = nn.Parameter(torch.zeros(width))  # β
        self.scale = nn.Parameter(torch.ones(width)) if last else None  # γ; before a ReLU it would say nothing new
        nn.init.normal_(self.linear.weight, std=below**-0.5)

    def forward(self, h: Tensor) -> Tensor:
        """(B, below) to (B, width)."""
        return self.activate(self.norm(self.linear(h).float()))

    def normalised(self, z: Tensor) -> Tensor:
        """``norm`` of z (B, width), but its averages do not learn from it."""
        return normalised(z) if self.norm.training else self.norm(z)

    def mean_and_deviation(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """What ``norm`` takes from z (B, width) and divides it by, (width,) each."""
        if self.norm.training:
            mean = z.mean(0)
            return mean, ((z - mean).square().mean(0) + EPSILON).sqrt()
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None
        assert variance is not None
        return mean, (variance + EPSILON).sqrt()

    def activate(self, z: Tensor) -> Tensor:
        """What a normalised layer z (B, width) hands on."""
        return (z + self.bias).relu() if self.scale is None else self.scale * (z + self.bias)


class Denoise(nn.Module):
    """ẑ = g(z̃, u) = (z̃ − μ(u)) υ(u) + μ(u), where u is what comes from above, normalised; μ and υ are each
    a₁ σ(a₂ u + a₃) + a₄ u + a₅ with numbers of every unit (equations 1 and 2).

    Args:
        width: units of this layer.
        above: units of the layer above, whose ẑ goes through a linear layer; None at the top.
    """

    def __init__(self, width: int, above: int | None):
        super().__init__()
        self.linear = None if above is None else nn.Linear(above, width, bias=False)
        # a₁ … a₅ of μ and of υ, all units' of each together: a vector, as weight decay is for matrices
        self.a = nn.Parameter(torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0]).repeat(2).repeat_interleave(width))
        if self.linear is not None:
            nn.init.normal_(self.linear.weight, std=self.linear.in_features**-0.5)

    def forward(self, noisy: Tensor, above: Tensor) -> Tensor:
        """z̃ (B, width) and the layer above's ẑ (B, above) to ẑ (B, width)."""
        u = normalised((above if self.linear is None else self.linear(above)).float())
        a = self.a.view(2, 5, -1)
        mu, upsilon = (p[0] * torch.sigmoid(p[1] * u + p[2]) + p[3] * u + p[4] for p in a)
        return (noisy - mu) * upsilon + mu


def normalised(z: Tensor) -> Tensor:
    """Units with mean 0 and variance 1 over the batch, (B, width)."""
    return F.batch_norm(z, None, None, training=True, eps=EPSILON)


class Ladder(nn.Module):
    """Fully connected layers with batch norm, noise and, for training, a decoder.

    Args:
        num_classes: the head's units; 0 gives the last hidden layer's features, and nothing to train.
        in_channels, image_size: the input is flattened, D = in_channels × image_size² numbers in [0, 1].
        hidden: widths of the layers between, at least one.
        noise: standard deviation of what is added to the input and to every normalised layer, 0 or more.
        costs: λ of each layer's distance, the input's first; as many as ``hidden`` and two more.

    Raises:
        ZooError: no hidden layer, a noise below 0, another number of costs.
    """

    heads = ("head", "decoder")  # sized by the classes, both

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
                "noise of 0 or more, a hidden layer, and two more costs than those"
            )
        widths = [in_channels * image_size**2, *hidden]
        self.costs = list(costs)
        self.noise = Noise(noise)  # of the input; registered before the layers, so that it is the first one's
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

    def passes(self, x: Tensor, u: Tensor) -> tuple[Tensor, list[Tensor], list[tuple[Tensor, Tensor, Tensor]]]:
        """The three ways up: of images x and u with noise in every layer, and of u without; each normalised over its
        own batch, but multiplied by a layer's weights together, which is faster. A layer that is not in training mode,
        as a frozen one, adds no noise, and normalises by its averages.

        Returns:
            the noisy logits of x and u, and from the input up u's layers: noisy z̃ (B, width), and clean z (B, width)
            with the mean and deviation (width,) that it was normalised by.
        """
        images = torch.cat([x, u]).flatten(1)
        h, n = torch.cat([self.noise(images), u.flatten(1)]), len(x) + len(u)
        corrupted, clean = [h[len(x) : n]], [(h[n:], torch.zeros_like(h[0]), torch.ones_like(h[0]))]
        for layer in (*self.layers, self.head):
            before = layer.linear(h).float()  # type: ignore[union-attr, operator]
            labelled, noisy, plain = before.split([len(x), len(u), len(u)])
            z = layer.noise(torch.cat([layer.normalised(labelled), layer.normalised(noisy)]))  # type: ignore[union-attr, operator]
            corrupted.append(z[len(x) :])
            # the layer's own norm, as evaluation goes by its averages
            clean.append((layer.norm(plain), *layer.mean_and_deviation(plain)))  # type: ignore[union-attr, operator]
            h = layer.activate(torch.cat([z, clean[-1][0]]))  # type: ignore[union-attr, operator]
        return h[:n], corrupted, clean

    def corrupted_and_cost(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """What training minimises (algorithm 1): the logits (B, num_classes) of images x (B, C, H, W) with noise; and
        Σ_l λ_l ‖z⁽ˡ⁾ − ẑ⁽ˡ⁾‖² / width of images u (N, C, H, W), mean over the batch, ().

        Raises:
            ZooError: fewer than two images of either.
        """
        if min(len(x), len(u)) < 2:
            raise ZooError("a ladder normalises over the batch: set data.batch_size and data.unlabelled to 2 or more")
        logits, noisy, clean = self.passes(x, u)
        above, total = logits[len(x) :].softmax(1), logits.new_zeros(())
        for i in reversed(range(len(noisy))):
            above = self.decoder[i](noisy[i], above)  # ẑ
            z, mean, deviation = clean[i]
            total = total + self.costs[i] * F.mse_loss((above - mean) / deviation, z)
        return logits[: len(x)], total
