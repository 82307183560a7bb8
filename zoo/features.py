"""Features of any layer by its name (lecture 16.2: hidden layers are representations)."""

from collections.abc import Sequence

import torch
from rich.table import Table
from torch import Tensor, nn

from zoo.errors import ZooError


def features(model: nn.Module, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """The outputs of the named layers for the input ``x``; names are those of ``model.named_modules()``.

    Raises:
        ZooError: no layer has that name; the message lists them.
    """
    modules = dict(model.named_modules())
    for name in layers:
        if name not in modules:
            valid = ", ".join(n for n in modules if n)
            raise ZooError(f"no layer is named {name!r}; valid: {valid}")
    found: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> None:
        found[name] = output

    hooks = [modules[name].register_forward_hook(lambda _m, _i, out, name=name: keep(name, out)) for name in layers]
    try:
        model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: found[name] for name in layers}


def default_layers(model: nn.Module) -> list[str]:
    """The layers with parameters of their own, in order, without the head."""
    own = [name for name, m in model.named_modules() if any(True for _ in m.parameters(recurse=False))]
    return [name for name in own if name != "head"]


class FeatureExtractor(nn.Module):
    """A model that returns the features of its layers, a list of tensors, instead of logits.

    Attributes:
        layers: the names of the layers, in the order of the list.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str] | None = None):
        super().__init__()
        self.model = model
        self.layers = list(layers if layers is not None else default_layers(model))
        modules = dict(model.named_modules())
        for name in self.layers:
            if name not in modules:
                raise ZooError(f"no layer is named {name!r}; valid: {', '.join(n for n in modules if n)}")

    def forward(self, x: Tensor) -> list[Tensor]:
        return list(features(self.model, x, self.layers).values())


def layer_table(model: nn.Module, x: Tensor) -> Table:
    """For people: each layer that computes something, the shape of its output for one example of the batch ``x``, and
    its parameters."""
    leaves = [name for name, m in model.named_modules() if name and not any(True for _ in m.children())]
    with torch.no_grad():
        outputs = features(model, x, leaves)
    modules = dict(model.named_modules())
    table = Table("layer", "", "output", "parameters")
    for name, output in outputs.items():
        count = sum(p.numel() for p in modules[name].parameters())
        if not isinstance(modules[name], nn.Identity):
            table.add_row(name, str(modules[name]), "×".join(map(str, output.shape[1:])), f"{count:,}" if count else "")
    return table
