"""Extract the features of any layer by its name (lecture 16.2: hidden layers are representations)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.pretrained.transfer import head_names


def features(model: nn.Module, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """The outputs of the named layers for the input ``x``; names are those of ``model.named_modules()``.

    Raises:
        ZooError: no layer has one of the names (the message lists all layers), or the forward pass does not call it.
    """
    check_names(model, layers)
    found = outputs(model, x, layers)
    if unused := [name for name in layers if name not in found]:
        raise ZooError(
            f"the model does not call {', '.join(unused)} in its forward pass, so it has no features; name other layers"
        )
    return {name: found[name] for name in layers}


def check_names(model: nn.Module, layers: Sequence[str]) -> None:
    """Raise a ``ZooError`` that lists the model's layers if one of the names is not among them."""
    modules = dict(model.named_modules())
    for name in layers:
        if name not in modules:
            raise ZooError(f"no layer is named {name!r}; valid: {', '.join(n for n in modules if n)}")


def outputs(model: nn.Module, x: Tensor, layers: Sequence[str]) -> dict[str, Any]:
    """The outputs of the layers that the forward pass of ``x`` calls; the last output if it calls one repeatedly."""
    modules = dict(model.named_modules())
    found: dict[str, Any] = {}

    def keep(name: str, output: Any) -> None:
        found.pop(name, None)  # so that the order is that of the last calls
        found[name] = output

    hooks = [modules[name].register_forward_hook(lambda _m, _i, out, name=name: keep(name, out)) for name in layers]
    try:
        model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def default_layers(model: nn.Module) -> list[str]:
    """The names of the layers with parameters of their own, in order, without heads and branches that end in one."""
    heads = {name.partition(".")[0] for name in head_names(model)}
    return [name for name, m in model.named_modules() if own_parameters(m) and name.partition(".")[0] not in heads]


def own_parameters(module: nn.Module) -> int:
    """The number of a module's own parameters, without those of its submodules."""
    return sum(p.numel() for p in module.parameters(recurse=False))


def shape(output: Any) -> str:
    """The shape of a layer's output without the batch dimension, "6×28×28"; several tensors are separated by commas."""
    if torch.is_tensor(output):
        return "×".join(map(str, output.shape[1:]))
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, (tuple, list)) else []
    return ", ".join(shape(part) for part in parts)
