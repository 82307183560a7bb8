"""Layers and helpers that two or more model families share."""

from collections.abc import Callable, Iterable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ZooError


class ScaledTanh(nn.Module):
    """f(a) = A tanh(S a) with A = 1.7159, S = 2/3, so that f(±1) = ±1 (LeCun et al. 1998, appendix A)."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(2 / 3 * x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "softplus": nn.Softplus,
    "scaled_tanh": ScaledTanh,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "identity": nn.Identity,
}


def make_activation(name: str) -> nn.Module:
    """Make the element-wise activation of that name: one of those in lecture 16.1, or a more recent one.

    Raises:
        ZooError: the name is not in ``ACTIVATIONS``.
    """
    if name not in ACTIVATIONS:
        raise ZooError(f"activation={name} is unknown; valid: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


Init = Literal["he", "torch"]
SLOPES = {"relu": 0.0, "leaky_relu": 0.01}  # slopes for negative inputs


def initialise(layers: Iterable[nn.Module], init: str, activation: str = "relu") -> None:
    """Set the initial weights of linear layers and convolutions that are followed by an activation.

    Args:
        layers: the layers; those of other kinds are left unchanged. Do not include the last layer of a network.
        init: "he": for relu and leaky_relu, weights from N(0, 2 / fan-in) and zero biases, with which neither
            activations nor gradients grow or shrink from layer to layer (He et al. 2015, equations 10 and 14); with
            other activations torch's initial weights are kept. "torch": torch's own initial weights, uniform with
            variance 1 / (3 fan-in); with ReLU, activations and gradients then shrink by a factor √6 per layer.
        activation: a name from ``ACTIVATIONS``.

    Raises:
        ZooError: the init is unknown.
    """
    if init not in get_args(Init):
        raise ZooError(f"model.init={init} is unknown; valid: {', '.join(get_args(Init))}")
    if init == "torch" or activation not in SLOPES:
        return
    for layer in layers:
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            fan_in = float(layer.weight[0].numel())
            if isinstance(layer, nn.ConvTranspose2d):  # weight is (in, out, h, w); an output sees 1/stride² of a kernel
                fan_in = layer.weight[:, 0].numel() / (layer.stride[0] * layer.stride[1])
            nn.init.normal_(layer.weight, std=(2 / (1 + SLOPES[activation] ** 2) / fan_in) ** 0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class ResponseNorm(nn.Module):
    """Local response normalisation across neighbouring feature maps: u / (k + α Σ u²)^β (Krizhevsky et al. 2012,
    section 3.3).

    ``nn.LocalResponseNorm(size, size * alpha, beta, k)`` gives the same, but is about three times slower on a CPU.

    Args:
        size: odd number of maps in the sum; fewer for the first and the last maps.
        alpha, beta, k: the paper's constants.
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0):
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, u: Tensor) -> Tensor:  # (B, C, H, W) -> the same shape
        maps, reach = u.shape[1], self.size // 2
        near = u.new_ones(maps, maps).triu(-reach).tril(reach)  # 1 where map j is in the sum of map i
        total = F.conv2d(u.square(), near[:, :, None, None])  # the sums are a 1×1 convolution
        return u * (self.k + self.alpha * total) ** -self.beta


class MinPool2d(nn.Module):
    """Min pooling, the smallest value of each window: (B, C, H, W) -> (B, C, H', W'); the padding is +∞.

    Args:
        kernel_size: side of the square windows.
        stride: distance between neighbouring windows; None means kernel_size.
        padding: number of pixels added at each border, at most half of kernel_size.
    """

    def __init__(self, kernel_size: int, stride: int | None = None, padding: int = 0):
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, stride or kernel_size, padding

    def forward(self, x: Tensor) -> Tensor:
        return -F.max_pool2d(-x, self.kernel_size, self.stride, self.padding)


class L2Pool2d(nn.Module):
    """L2 pooling, the norm √Σx² of each window; arguments as for ``MinPool2d``, but the padding is 0.

    The gradient is 0 for a window of zeros.
    """

    def __init__(self, kernel_size: int, stride: int | None = None, padding: int = 0):
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, stride or kernel_size, padding

    def forward(self, x: Tensor) -> Tensor:
        total = F.avg_pool2d(x.square(), self.kernel_size, self.stride, self.padding, divisor_override=1)
        return total.clamp(min=torch.finfo(total.dtype).tiny).sqrt()


POOLS: dict[str, Callable[..., nn.Module]] = {
    "max": nn.MaxPool2d,
    "avg": nn.AvgPool2d,
    "min": MinPool2d,
    "l2": L2Pool2d,
}


def make_pool(name: str, kernel_size: int, stride: int | None = None, padding: int = 0) -> nn.Module:
    """The pooling layer of that name (lecture 16.3), with square windows: (B, C, H, W) -> (B, C, H', W').

    Args:
        name: a name from ``POOLS``; average pooling counts the zeros of the padding.
        kernel_size, stride, padding: as for ``MinPool2d``.

    Raises:
        ZooError: the name is not in ``POOLS``.
    """
    if name not in POOLS:
        raise ZooError(f"pool={name} is unknown; valid: {', '.join(POOLS)}")
    return POOLS[name](kernel_size, stride, padding)


class VariationalDropout(nn.Dropout):
    """Dropout that drops the same units in all steps of a sequence (B, T, H) (Gal & Ghahramani 2016, section 4)."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        return x * F.dropout(x.new_ones(len(x), 1, x.shape[-1]), self.p)


def make_head(in_features: int, num_classes: int) -> nn.Module:
    """The last layer, ``head`` in a model: features (B, in_features) to logits; num_classes=0 leaves them unchanged."""
    return nn.Linear(in_features, num_classes) if num_classes else nn.Identity()
