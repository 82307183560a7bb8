"""Layers that two or more families share."""

from collections.abc import Callable

import torch
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


def activation(name: str) -> nn.Module:
    """The activation of that name (lecture 16.1 and its successors); every one acts element by element.

    Raises:
        ZooError: the name is not in ``ACTIVATIONS``.
    """
    if name not in ACTIVATIONS:
        raise ZooError(f"activation={name} is unknown; valid: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def head(in_features: int, num_classes: int) -> nn.Module:
    """The last layer, named ``head`` in every model: logits, or the features themselves for num_classes=0."""
    return nn.Linear(in_features, num_classes) if num_classes else nn.Identity()
