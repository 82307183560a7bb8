"""Features of any layer by its name (lecture 16.2: hidden layers are representations)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.pretrained.transfer import head_names


def features(model: nn.Module, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """The outputs of the named layers for the input ``x``; names are those of ``model.named_modules()``.

    Raises:
        ZooError: no layer has that name, and the message lists them; a layer that a forward pass does not use.
    """
    check_names(model, layers)
    found = outputs(model, x, layers)
    if unused := [name for name in layers if name not in found]:
        raise ZooError(
            f"the model does not call {', '.join(unused)} in its forward pass, so there are no features of it"
        )
    return {name: found[name] for name in layers}


def check_names(model: nn.Module, layers: Sequence[str]) -> None:
    """Raise a ``ZooError`` that lists the layers where one has no such name."""
    modules = dict(model.named_modules())
    for name in layers:
        if name not in modules:
            raise ZooError(f"no layer is named {name!r}; valid: {', '.join(n for n in modules if n)}")


def outputs(model: nn.Module, x: Tensor, layers: Sequence[str]) -> dict[str, Any]:
    """What those of the layers gave that the forward pass of ``x`` called; the last, where one is called again."""
    modules = dict(model.named_modules())
    found: dict[str, Any] = {}

    def keep(name: str, output: Any) -> None:
        found[name] = output

    hooks = [modules[name].register_forward_hook(lambda _m, _i, out, name=name: keep(name, out)) for name in layers]
    try:
        model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def default_layers(model: nn.Module) -> list[str]:
    """The layers with parameters of their own, in order, without the heads and the branches that end in one."""
    heads = {name.partition(".")[0] for name in head_names(model)}
    return [name for name, m in model.named_modules() if own_parameters(m) and name.partition(".")[0] not in heads]


def own_parameters(module: nn.Module) -> int:
    """The number of a module's parameters without those of the modules in it."""
    return sum(p.numel() for p in module.parameters(recurse=False))


class FeatureExtractor(nn.Module):
    """A model that returns the features of its layers, a list of tensors, instead of logits.

    Attributes:
        layers: the names of the layers, in the order of the list.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str] | None = None):
        super().__init__()
        self.model = model
        self.layers = list(layers if layers is not None else default_layers(model))
        check_names(model, self.layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        return list(features(self.model, x, self.layers).values())


def shape(output: Any) -> str:
    """The sizes of a layer's output without the batch: "6×28×28", and of several tensors each."""
    if torch.is_tensor(output):
        return "×".join(map(str, output.shape[1:]))
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, (tuple, list)) else []
    return ", ".join(shape(part) for part in parts)
