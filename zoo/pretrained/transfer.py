"""Transfer learning (lecture 16.7): copy the weights learned for task A to a network for task B, and freeze layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial

import torch
from torch import Tensor, nn

from zoo.contracts import WithHeads
from zoo.errors import ZooError
from zoo.pretrained.names import new_names, under


def matches(name: str, pattern: str) -> bool:
    """Whether a parameter's dotted name matches a pattern: a glob (``"conv*"``), or a layer that contains it."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


@dataclass
class Row:
    """What happened to one tensor: copied, adapted, skipped, missing, unexpected, wrong shape, or its defect."""

    name: str
    status: str
    detail: str = ""


FEW_LAYERS = 6  # that a message may advise to skip
FINE = ("copied", "adapted", "skipped")


class Mismatch(ZooError):
    """Weights that do not fit a model; ``rows`` tells what happened to each tensor, ``other_architecture`` whether most
    do not fit.
    """

    def __init__(self, message: str, rows: list[Row], other_architecture: bool = False):
        super().__init__(message)
        self.rows = rows
        self.other_architecture = other_architecture


def head_names(model: nn.Module) -> tuple[str, ...]:
    """The layers whose size depends on the number of classes: ``head``, or the ``heads`` of the model's class."""
    return tuple(model.heads) if isinstance(model, WithHeads) else ("head",)


def copy_weights(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    skip: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
) -> list[Row]:
    """Copy weights into a model by name, in place; if any tensor does not fit, nothing is copied.

    Torchvision's names and those in ``rename`` are translated, and prefixes such as "module." removed (see
    ``new_names``). If the first convolution has 1 input
    channel in one model and 3 in the other, it is adapted so that a grey image, repeated over the channels, gives the
    same output.

    Args:
        skip: patterns (see ``matches``) of tensors of the model that keep their initial values, and of tensors in
            ``weights`` that are ignored.
        rename: from layer names in ``weights`` to the model's names for them.

    Returns:
        One row per tensor of the model or of ``weights``.

    Raises:
        Mismatch: a tensor is missing, unexpected, of the wrong shape or unusable, and ``skip`` does not match it.
        ZooError: a pattern matches nothing.
    """
    target = model.state_dict()
    renamed = {new: old for old, new in new_names(model, weights, rename).items()}
    weights = {new: weights[old] for new, old in renamed.items()}
    names = list(dict.fromkeys([*target, *weights]))
    for pattern in skip:
        if not any(matches(name, pattern) for name in names):
            raise ZooError(f"init.skip: nothing fits {pattern!r}; tensors: {', '.join(names)}")
    kernels = [(name, p.shape[1]) for name, p in model.named_parameters() if p.ndim == 4]
    first = {name for name, channels in kernels if channels == kernels[0][1]}  # several, if towers share the image
    rows: list[Row] = []
    new: dict[str, Tensor] = {}
    for name in names:
        if any(matches(name, pattern) for pattern in skip):
            rows.append(Row(name, "skipped"))
        elif name not in weights and name.endswith(".num_batches_tracked"):
            rows.append(Row(name, "skipped", "not in the weights, as in old files; it does not affect any output"))
        elif name == "n_averaged" and name not in target:
            rows.append(Row(name, "skipped", "counts the updates of torch's AveragedModel; no model needs it"))
        elif name not in weights:
            rows.append(Row(name, "missing", f"not in the weights; {tuple(target[name].shape)} in the model"))
        elif (flaw := kind_of(weights[name])) != "dense" or (flaw := mistaken(weights[name], target.get(name))):
            rows.append(Row(name, flaw, "in the weights; a model needs dense tensors of numbers"))
        elif name not in target:
            rows.append(Row(name, "unexpected", f"{tuple(weights[name].shape)} in the weights, not in the model"))
        elif weights[name].shape == target[name].shape:
            new[name] = weights[name]
            rows.append(Row(name, "copied", str(tuple(target[name].shape))))
        elif name in first and (adapted := adapt_channels(weights[name], target[name].shape)) is not None:
            new[name] = adapted
            rows.append(Row(name, "adapted", f"{tuple(weights[name].shape)} to {tuple(adapted.shape)}"))
        else:
            shapes = f"{tuple(weights[name].shape)} in the weights, {tuple(target[name].shape)} in the model"
            rows.append(Row(name, "wrong shape", shapes))
    for row in rows:
        if renamed.get(row.name, row.name) != row.name:
            row.detail = ", ".join(filter(None, [row.detail, f"from {renamed[row.name]}"]))
    bad = [row for row in rows if row.status not in FINE]
    if bad:
        names = ", ".join(f"{row.name} ({row.status})" for row in bad[:6]) + (", …" if len(bad) > 6 else "")
        layers = dict.fromkeys(row.name.rsplit(".", 1)[0] for row in bad)
        if is_other_architecture(rows, len(layers)):
            raise Mismatch(
                f"the weights are those of another architecture: {len(new)} of the model's {len(target)} tensors fit. "
                f"Choose the model that the weights were trained with, or other weights; not fitting: {names}",
                rows,
                other_architecture=True,
            )
        raise Mismatch(
            f"the weights do not fit the model: {names}. To leave those out: 'init.skip=[{','.join(layers)}]'", rows
        )
    with torch.no_grad():
        for name, tensor in new.items():
            target[name].copy_(tensor)  # shares memory with the model
    return rows


def is_other_architecture(rows: Sequence[Row], bad_layers: int) -> bool:
    """Whether leaving layers out is no remedy: nothing has the model's names, or many layers and most tensors do not
    fit. A wrong number of classes or one more layer is the same architecture.
    """
    fitting = sum(row.status in ("copied", "adapted") for row in rows)
    absent = sum(row.status in ("missing", "unexpected") for row in rows)
    return (not fitting and absent == len(rows)) or (bad_layers > FEW_LAYERS and fitting < len(rows) / 2)


def kind_of(tensor: Tensor) -> str:
    """The storage of a tensor: "dense", as every tensor of a model must be, or a word for another kind."""
    kinds = (
        (tensor.is_meta, "meta, without values"), (tensor.is_nested, "nested"), (tensor.is_quantized, "quantised"),
        (tensor.layout is not torch.strided, "sparse"),
    )  # fmt: skip
    return next((kind for has, kind in kinds if has), "dense")


def mistaken(tensor: Tensor, target: Tensor | None) -> str:
    """What is wrong with the values that would be copied to a model's tensor; "" if nothing is."""
    if target is None or tensor.shape != target.shape:
        return ""  # reported as unexpected or as a wrong shape
    if tensor.is_complex() != target.is_complex():
        return "complex" if tensor.is_complex() else "not complex"
    return "NaN" if tensor.dtype.is_floating_point and bool(tensor.float().isnan().any()) else ""


def adapt_channels(kernel: Tensor, shape: torch.Size) -> Tensor | None:
    """A kernel (O, I, h, w) converted from 3 input channels to 1 or from 1 to 3; None if that is not the difference."""
    if (kernel.shape[0], *kernel.shape[2:]) != (shape[0], *shape[2:]):
        return None
    if (kernel.shape[1], shape[1]) == (3, 1):
        return kernel.sum(1, keepdim=True)
    if (kernel.shape[1], shape[1]) == (1, 3):
        return kernel.expand(shape) / 3
    return None


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Freeze the layers that match the patterns: their parameters get no gradient, update or weight decay, and the
    layers stay in eval mode, with fixed normalisation statistics and without dropout.

    Patterns that begin with "!" freeze everything that matches none of them: ``["!head"]`` trains only the head. Layers
    whose parameters are all frozen stay in eval mode even after ``model.train()``. The same holds for a layer without
    parameters, such as dropout, if it matches a pattern, is part of such a layer, or is followed by a frozen layer:
    dropout between two layers is off if the second is frozen.

    Returns:
        The names of the frozen tensors: parameters, and the statistics of frozen normalisation layers.

    Raises:
        ZooError: a pattern matches no parameter or layer.
    """
    modules = dict(model.named_modules())
    parameters = dict(model.named_parameters())
    for pattern in patterns:
        if not any(matches(name, pattern.lstrip("!")) for name in [*parameters, *modules] if name):
            layers = ", ".join(name for name, _ in model.named_children())
            raise ZooError(f"init.freeze: nothing fits {pattern!r}; layers: {layers}")
    but = [pattern[1:] for pattern in patterns if pattern.startswith("!")]

    def fits(name: str) -> bool:
        return any(matches(name, p) for p in patterns) or (bool(but) and not any(matches(name, p) for p in but))

    for name, parameter in parameters.items():
        if fits(name):
            parameter.requires_grad_(False)

    def is_still(name: str, module: nn.Module) -> bool:
        own = list(module.parameters()) or ([] if fits(name) else parameters_of_reader(model, name))
        return (fits(name) or bool(own)) and not any(p.requires_grad for p in own)

    still = [name for name, module in modules.items() if name and is_still(name, module)]
    for name in still:
        modules[name].eval()
        modules[name].train = partial(stay_in_eval, modules[name])  # type: ignore[method-assign]
    buffers = {name for name, _ in model.named_buffers() if any(under(name, layer) for layer in still)}
    return [name for name in model.state_dict() if name in buffers or (name in parameters and fits(name))]


def parameters_of_reader(model: nn.Module, name: str) -> list[nn.Parameter]:
    """The parameters of the layer that reads the output of the layer ``name``, taken to be the first layer with
    parameters among those registered after it in the same module; empty if there is none.
    """
    parent, _, child = name.rpartition(".")
    siblings = list(model.get_submodule(parent).named_children())
    place = [sibling for sibling, _ in siblings].index(child)
    inside = (module for _, sibling in siblings[place + 1 :] for module in sibling.modules())
    own = (list(module.parameters(recurse=False)) for module in inside)
    return next(filter(None, own), [])


def stay_in_eval(module: nn.Module, mode: bool = True) -> nn.Module:
    """The ``train`` method of a frozen layer, which does nothing; a function, so that models can be pickled."""
    return module
