"""The parameters, multiply-adds and receptive field of each layer of a model (lecture 16.3)."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from rich.box import SIMPLE
from rich.table import Column, Table
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from zoo.console import Console
from zoo.pretrained.features import own_parameters, shape
from zoo.use.receptive import Field, Fields, last


@dataclass(frozen=True)
class Layer:
    """A module as used in a forward pass.

    Attributes:
        name: its name in the model.
        output: the shape of its output for one example, "6×28×28".
        parameters: the number of parameters, with those of its submodules.
        multiply_adds: the number of multiply-adds in all its calls, with those of its submodules.
        own_multiply_adds: the same without those of its submodules.
        field: the receptive field of its output; None if the output does not depend on the image.
    """

    name: str
    output: str
    parameters: int
    multiply_adds: int
    own_multiply_adds: int
    field: Field | None


def profile(model: nn.Module, x: Tensor) -> list[Layer]:
    """Each module that a forward pass of ``x`` calls, in the order of ``named_modules``; the first, "", is the model.

    Multiply-adds are those of convolutions and matrix products.

    Args:
        model: a model in evaluation mode; its weights do not matter.
        x: one example, (1, C, H, W) or (1, C, T), or tokens (1, T).
    """
    outputs: dict[str, tuple[str, Field | None]] = {}
    total, own = Counter[str](), Counter[str]()
    running: list[tuple[int, int]] = []  # per active module: the count at its start, and its submodules' count since
    uncounted = [0]  # operations of recurrent kernels that torch's counter misses

    def before() -> None:
        running.append((counter.get_total_flops() + uncounted[0], 0))

    def after(name: str, output: Any) -> None:
        begun, parts = running.pop()
        flops = counter.get_total_flops() + uncounted[0] - begun
        if (missing := 2 * recurrent(modules[name], output) - flops) > 0:
            uncounted[0] += missing
            flops += missing
        if running:
            running[-1] = (running[-1][0], running[-1][1] + flops)
        total[name] += flops // 2
        own[name] += (flops - parts) // 2
        known = [fields.of[t] for t in tree_leaves(output) if torch.is_tensor(t) and t in fields.of]
        outputs[name] = (shape(output), known[0] if known else None)

    modules = dict(model.named_modules())
    hooks = [m.register_forward_pre_hook(lambda _m, _i: before()) for m in modules.values()]
    hooks += [m.register_forward_hook(lambda _m, _i, out, name=name: after(name, out)) for name, m in modules.items()]
    try:
        # with gradients enabled, as torch's fast paths without them hide some operators
        with torch.enable_grad(), FlopCounterMode(display=False) as counter, Fields(x) as fields:
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        Layer(name, output, sum(p.numel() for p in modules[name].parameters()), total[name], own[name], field)
        for name in modules
        for output, field in ([outputs[name]] if name in outputs else [])
    ]


def recurrent(module: nn.Module, output: Any) -> int:
    """The multiply-adds of one of torch's recurrent layers, which uses each matrix once per step; 0 for others."""
    if not isinstance(module, nn.RNNBase):
        return 0
    matrices = sum(p.numel() for name, p in module.named_parameters() if name.startswith("weight"))
    return output[0][..., 0].numel() * matrices


def layer_table(model: nn.Module, x: Tensor | None) -> Table:
    """A table to print, with a row for each layer that has parameters or computes something: its output shape for the
    example ``x`` and the figures of ``profile``, without those of its submodules. The last row has the model's totals.
    If ``x`` is None, the table has layers and parameters only.
    """
    used = {} if x is None else {layer.name: layer for layer in profile(model, x)}
    table = Table(Column("layer", "all"), "", "output", show_footer=True, box=SIMPLE)
    table.add_column("parameters", f"{sum(p.numel() for p in model.parameters()):,}", justify="right")
    if x is not None:
        table.add_column("multiply-adds", f"{used[''].multiply_adds:,}", justify="right")
        table.add_column("field", justify="right")
        table.add_column("jump", justify="right")
    for name, module in model.named_modules():
        layer, count, leaf = used.get(name), own_parameters(module), not any(True for _ in module.children())
        called = leaf and not isinstance(module, nn.Identity) and (layer is not None or x is None)
        operations = layer.own_multiply_adds if layer else 0
        if called or count or operations:
            row = [name or "(itself)", kind(module, x), layer.output if layer else "", f"{count:,}" if count else ""]
            if layer and x is not None:
                row += [f"{operations:,}" if operations else "", *show_field(layer.field, x)]
            table.add_row(*row)
    if x is not None:
        table.width = Console(width=1000).measure(table).maximum  # so that a narrow terminal breaks lines, not numbers
    return table


def kind(module: nn.Module, x: Tensor | None) -> str:
    """A short description of a layer, "Conv2d 3×3, stride 2"; without ``x``, when the table has more room, its repr."""
    if x is None and not any(True for _ in module.children()):
        return str(module)
    name = type(module).__name__
    size, stride = getattr(module, "kernel_size", None), getattr(module, "stride", None)
    if not isinstance(size, (int, tuple)) or not isinstance(stride, (int, tuple)) or x is None:
        return name
    steps = dict.fromkeys(last(stride, x.ndim - 2))
    return f"{name} {times(last(size, x.ndim - 2))}{'' if list(steps) == [1] else f', stride {times(steps)}'}"


def show_field(field: Field | None, x: Tensor) -> tuple[str, str]:
    """A field's height and width, "14×14", or "all" of the image; and its jump, one number if equal on all axes."""
    if not field:
        return "", ""
    size = times(axis.size for axis in field)
    if all(axis.jump == 0 for axis in field):
        covers = all(a.first <= 0 and a.last >= n - 1 for a, n in zip(field, x.shape[2:], strict=True))
        return "all" if covers else size, ""
    return size, times(dict.fromkeys(axis.jump for axis in field))


def times(values: Iterable[float]) -> str:
    return "×".join(f"{value:g}" for value in values)
