"""Receptive fields (lecture 16.3): the range of the input, along each axis, that one output can depend on.

A layer with window l, stride s and dilation d changes the field's size r and its jump j, the distance between the
fields of neighbouring outputs, to

    r' = r + d (l − 1) j,    j' = s j,    r = j = 1 at the input,

so m layers of stride s give a field of size O(l s^m). Fields are tracked here from operator to operator, not from
module to module. So operations between modules (residual sums, concatenations, functional pooling) count too, merged
branches get the smallest interval that contains their fields, and the position of each field is known as well. Padding
counts as input, so a field can be larger than the image. Normalisation is treated as element-wise. Each output of an
operator that is not known to be local (a linear layer, attention, a mean over positions) counts as depending on all
inputs.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

aten = torch.ops.aten


class Axis(NamedTuple):
    """A field along one axis: the output at i depends on inputs ``first + i·jump`` to ``last + i·jump``.

    A jump of 0 means that all outputs depend on the same inputs.
    """

    first: float
    last: float
    jump: float

    @property
    def size(self) -> float:
        return self.last - self.first + 1

    def window(self, size: int, stride: float = 1, padding: int = 0, dilation: int = 1) -> "Axis":
        """The field after a convolution or pooling with this window."""
        first = self.first - padding * self.jump
        return Axis(first, first + self.last - self.first + dilation * (size - 1) * self.jump, stride * self.jump)

    def everywhere(self, n: int) -> "Axis":
        """The field of an output that depends on all ``n`` positions along this axis."""
        return Axis(self.first, self.last + (n - 1) * self.jump, 0)

    def union(self, other: "Axis") -> "Axis":
        return Axis(min(self.first, other.first), max(self.last, other.last), max(self.jump, other.jump))


Field = tuple[Axis, ...]  # one entry per axis of the image: height and width


class Fields(TorchDispatchMode):
    """A context that records in ``of`` the receptive field of every tensor computed from ``x`` within it."""

    def __init__(self, x: Tensor):
        super().__init__()
        self.axes = x.ndim - 2
        self.of: Any = WeakTensorKeyDictionary()
        self.of[x] = (Axis(0, 0, 1),) * self.axes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = [(t, self.of[t]) for t in tree_leaves((args, kwargs)) if torch.is_tensor(t) and t in self.of]
        shapes = [t.shape[-self.axes :] for t, _ in inputs]  # before the call, which may resize its input
        out = func(*args, **(kwargs or {}))
        if inputs and self.axes > 0:
            for tensor in tree_leaves(out):
                if torch.is_tensor(tensor):
                    fields = [field for _, field in inputs]
                    self.of[tensor] = after_operator(func, arguments(func, args, kwargs or {}), fields, shapes, tensor)
        return out


def arguments(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an operator by name, including defaults of those not passed."""
    schema = func._schema.arguments
    return {a.name: a.default_value for a in schema} | {a.name: v for a, v in zip(schema, args, strict=False)} | kwargs


POOLS = {
    aten.max_pool2d_with_indices, aten.max_pool3d_with_indices, aten.avg_pool1d, aten.avg_pool2d, aten.avg_pool3d,
}  # fmt: skip
ADAPTIVE = {
    aten._adaptive_avg_pool2d, aten._adaptive_avg_pool3d, aten.adaptive_max_pool2d, aten.adaptive_max_pool3d,
    aten.upsample_nearest1d, aten.upsample_nearest2d, aten.upsample_nearest3d,
}  # fmt: skip
PADS = {
    aten.constant_pad_nd, aten.reflection_pad1d, aten.reflection_pad2d, aten.replication_pad1d, aten.replication_pad2d,
}  # fmt: skip
LOCAL = {  # not tagged as pointwise, but local if the image's axes stay last and keep their sizes
    aten.cat, aten.view, aten._unsafe_view, aten.unsqueeze, aten.squeeze, aten.expand, aten.slice, aten.split,
    aten.channel_shuffle, aten.native_channel_shuffle, aten.clone, aten.copy_, aten.alias, aten.detach, aten._to_copy,
    aten.native_batch_norm, aten._native_batch_norm_legit, aten._native_batch_norm_legit_no_training,
    aten._batch_norm_with_update, aten._batch_norm_no_update, aten.native_group_norm,
}  # fmt: skip


def after_operator(
    func: Any, given: dict[str, Any], fields: Sequence[Field], shapes: Sequence[Sequence[int]], out: Tensor
) -> Field:
    """The field of an operator's output.

    Args:
        func: the operator.
        given: its arguments by name.
        fields: the field of each input that depends on the image.
        shapes: the sizes of these inputs along the image's axes.
        out: its output.
    """
    n, operator, field = len(fields[0]), func.overloadpacket, fields[0]
    if operator is aten.convolution and given["transposed"]:
        sizes = zip(field, last(given["weight"].shape, n), last(given["stride"], n), strict=True)
        return tuple(axis.window(-(-size // stride), 1 / stride) for axis, size, stride in sizes)
    if operator is aten.convolution or operator in POOLS:
        windows = given["weight"].shape if operator is aten.convolution else given["kernel_size"]
        steps = (windows, given["stride"] or windows, given["padding"], given.get("dilation", 1))
        return tuple(a.window(*step) for a, *step in zip(field, *(last(step, n) for step in steps), strict=True))
    if operator in ADAPTIVE:
        sizes = zip(field, shapes[0], out.shape[-n:], strict=True)
        return tuple(axis.window(widest(before, now), before / now) for axis, before, now in sizes)
    if operator in PADS:
        left = [*given["pad" if operator is aten.constant_pad_nd else "padding"][::2], *[0] * n][:n][::-1]
        return tuple(axis.window(1, 1, padding) for axis, padding in zip(field, left, strict=True))
    if operator is aten.slice and given["dim"] % out.ndim >= out.ndim - n:
        sliced = given["dim"] % out.ndim - (out.ndim - n)
        start = given["start"] or 0
        start += shapes[0][sliced] if start < 0 else 0
        step = field[sliced].window(1, given["step"], -start)
        return (*field[:sliced], step, *field[sliced + 1 :])
    local = torch.Tag.pointwise in func.tags or operator in LOCAL
    if operator in (aten.permute, aten.transpose):  # local only if the image's axes stay in place
        moved = given["dims"][-n:] if operator is aten.permute else [given["dim0"], given["dim1"]]
        places = [d % out.ndim for d in moved]
        kept = list(range(out.ndim - n, out.ndim))
        local = places == kept if operator is aten.permute else not set(places) & set(kept)
    pairs = list(zip(fields, shapes, strict=True))
    if not local or any(tuple(sizes) != tuple(out.shape[-n:]) or field[0].jump == 0 for field, sizes in pairs):
        # an input of jump 0, as the factors of squeeze-and-excitation, sees the same everywhere, and so does the output
        fields = [tuple(map(Axis.everywhere, field, sizes)) for field, sizes in pairs]
    return tuple(functools.reduce(Axis.union, axes) for axes in zip(*fields, strict=True))


def last(values: Any, n: int) -> list[int]:
    """The last n of the sizes given to an operator; a single size stands for all axes."""
    values = [values] if isinstance(values, int) else list(values)
    return values[-n:] if len(values) >= n else values * n


def widest(before: int, now: int) -> int:
    """The largest window of an adaptive pooling from ``before`` positions to ``now``; 1 for upsampling."""
    return max(-(-(i + 1) * before // now) - i * before // now for i in range(now)) if now <= before else 1
