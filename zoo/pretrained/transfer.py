"""Transfer learning (lecture 16.7): copy the weights learned for task A to a network for task B, and freeze layers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial

import torch
from torch import Tensor, nn

from zoo.config import formats
from zoo.contracts import KnownToTorchvision, WithHeads
from zoo.errors import ZooError


def matches(name: str, pattern: str) -> bool:
    """Whether a parameter's dotted name fits a pattern: a glob (``"conv*"``), or a layer with all below it."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


@dataclass
class Row:
    """What became of one tensor: copied, adapted, skipped, missing, unexpected, wrong shape, or a flaw in it."""

    name: str
    status: str
    detail: str = ""


FINE = ("copied", "adapted", "skipped")


class Mismatch(ZooError):
    """Weights that do not fit a model; ``rows`` is the table."""

    def __init__(self, message: str, rows: list[Row]):
        super().__init__(message)
        self.rows = rows


def head_names(model: nn.Module) -> tuple[str, ...]:
    """The layers that are sized by the number of classes: ``head``, or what the model's class says in ``heads``."""
    return tuple(model.heads) if isinstance(model, WithHeads) else ("head",)


def new_names(model: nn.Module, weights: Iterable[str], rename: Mapping[str, str] | None = None) -> dict[str, str]:
    """What tensors of other people's files are called in a model, by their names in the file.

    A tensor that the model has keeps its name. Others go by the longest layer's name that fits: in ``rename``, from
    theirs to ours, in what the model's layers were called once (``zoo.config.formats``), or in what torchvision calls
    them, which the model's class says in ``torchvision_names``.

    A prefix goes with ``{"module": ""}``.

    Raises:
        ZooError: a name in ``rename`` that nothing in the file has; two tensors that would have the same name.
    """
    own, weights = set(model.state_dict()), list(weights)
    for old in rename or {}:
        if not any(under(name, old) for name in weights):
            raise ZooError(f"init.rename: nothing is named {old} in the weights; tensors: {', '.join(weights)}")
    kind = type(model)
    older = formats.TENSORS.get(f"{kind.__module__}.{kind.__qualname__}", {})
    theirs = model.torchvision_names if isinstance(model, KnownToTorchvision) else {}
    known: dict[str, str] = {**theirs, **older, **(rename or {})}
    names: dict[str, str] = {}
    for name in weights:
        asked = name not in own or any(under(name, old) for old in rename or {})
        fitting = [old for old in known if asked and under(name, old)]
        old = max(fitting, key=len, default="")
        names[name] = (known[old] + name[len(old) :]).lstrip(".") if fitting else name
    if len(set(names.values())) < len(names):
        twice = next(new for new in names.values() if list(names.values()).count(new) > 1)
        raise ZooError(f"the weights: {' and '.join(o for o, n in names.items() if n == twice)} would all be {twice}")
    return names


def under(name: str, layer: str) -> bool:
    """Whether a dotted name is a layer's, or that of something in it."""
    return name == layer or name.startswith(f"{layer}.")


def copy_weights(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    skip: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
) -> list[Row]:
    """Fill a model from weights by their names, in place; nothing is copied unless everything is explained.

    Torchvision's names and those in ``rename`` are understood (see ``new_names``). A first convolution may change
    between grey and colour input: it is adapted so that a grey image, repeated over the channels, gives the same
    output.

    Args:
        skip: patterns (see ``matches``) of tensors that keep their initial value, or are not wanted of ``weights``.
        rename: layers by their names in ``weights``, and what the model calls them.

    Returns:
        A row a tensor.

    Raises:
        Mismatch: a tensor is missing, unexpected or of the wrong shape and no pattern in ``skip`` explains it.
        ZooError: a pattern fits nothing.
    """
    target = model.state_dict()
    renamed = {new: old for old, new in new_names(model, weights, rename).items()}
    weights = {new: weights[old] for new, old in renamed.items()}
    names = list(dict.fromkeys([*target, *weights]))
    for pattern in skip:
        if not any(matches(name, pattern) for name in names):
            raise ZooError(f"init.skip: nothing fits {pattern!r}; tensors: {', '.join(names)}")
    kernels = [(name, p.shape[1]) for name, p in model.named_parameters() if p.ndim == 4]
    first = {name for name, channels in kernels if channels == kernels[0][1]}  # several, where towers share the image
    rows: list[Row] = []
    new: dict[str, Tensor] = {}
    for name in names:
        if any(matches(name, pattern) for pattern in skip):
            rows.append(Row(name, "skipped"))
        elif name not in weights and name.endswith(".num_batches_tracked"):
            rows.append(Row(name, "skipped", "not in the weights, as in files of old; nothing is computed from it"))
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
        raise Mismatch(
            f"the weights do not fit the model: {names}. To leave those out: 'init.skip=[{','.join(layers)}]'", rows
        )
    with torch.no_grad():
        for name, tensor in new.items():
            target[name].copy_(tensor)  # shares memory with the model
    return rows


def kind_of(tensor: Tensor) -> str:
    """Whether a tensor is "dense", as those of a model are, or what else it is."""
    kinds = (
        (tensor.is_meta, "meta, without values"), (tensor.is_nested, "nested"), (tensor.is_quantized, "quantised"),
        (tensor.layout is not torch.strided, "sparse"),
    )  # fmt: skip
    return next((kind for has, kind in kinds if has), "dense")


def mistaken(tensor: Tensor, target: Tensor | None) -> str:
    """What is wrong with the numbers that would be copied to a model's tensor; nothing where they are numbers."""
    if target is None or tensor.shape != target.shape:
        return ""  # which is said otherwise
    if tensor.is_complex() != target.is_complex():
        return "complex" if tensor.is_complex() else "not complex"
    return "NaN" if tensor.dtype.is_floating_point and bool(tensor.float().isnan().any()) else ""


def adapt_channels(kernel: Tensor, shape: torch.Size) -> Tensor | None:
    """A kernel (O, I, h, w) for 1 instead of 3 input channels or 3 instead of 1; None where that is not the case."""
    if (kernel.shape[0], *kernel.shape[2:]) != (shape[0], *shape[2:]):
        return None
    if (kernel.shape[1], shape[1]) == (3, 1):
        return kernel.sum(1, keepdim=True)
    if (kernel.shape[1], shape[1]) == (1, 3):
        return kernel.expand(shape) / 3
    return None


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Freeze what fits the patterns: no gradient, no update, no decay; norm statistics and dropout stand still.

    Patterns after "!" stand for all that fits none of them: ``["!head"]`` trains the head alone. Layers whose
    parameters are all frozen go to eval mode and stay there whatever ``model.train()`` says. So does a layer without
    parameters, as dropout, that fits a pattern or is part of such a layer, or whose output a frozen layer reads: of
    dropout between two layers, the second one decides.

    Returns:
        The names of the frozen tensors: parameters, and the statistics of frozen norms.

    Raises:
        ZooError: a pattern fits no parameter or layer.
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
    """The parameters of the layer that reads the output of another, which has none: the first with parameters of its
    own among those that the same module registers after it. None, where there is none.
    """
    parent, _, child = name.rpartition(".")
    siblings = list(model.get_submodule(parent).named_children())
    place = [sibling for sibling, _ in siblings].index(child)
    inside = (module for _, sibling in siblings[place + 1 :] for module in sibling.modules())
    own = (list(module.parameters(recurse=False)) for module in inside)
    return next(filter(None, own), [])


def stay_in_eval(module: nn.Module, mode: bool = True) -> nn.Module:
    """What ``module.train(mode)`` is for a frozen layer; a function of the file, so that models still pickle."""
    return module
