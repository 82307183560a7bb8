"""The model's names for the tensors of a file: former names, torchvision's names, and prefixes that wrappers add."""

from collections import Counter
from collections.abc import Iterable, Mapping

from torch import nn

from zoo.config import formats
from zoo.contracts import KnownToTorchvision
from zoo.errors import ZooError

COMPILED = "_orig_mod"  # the layer that torch.compile(model) puts around a model or a part of it
COUNTS = ("num_batches_tracked", "n_averaged")  # of updates: in batch normalisation, in torch's AveragedModel
DEEPEST = 4  # layers around a model


def new_names(model: nn.Module, weights: Iterable[str], rename: Mapping[str, str] | None = None) -> dict[str, str]:
    """The model's name for each tensor of a file, by its name in the file.

    A tensor whose name the model knows keeps it. Other names are translated by the longest matching layer name in
    ``rename`` (from the file's names to the model's), in the former names of the model's layers
    (``zoo.config.formats``), or in torchvision's names, which the model's class lists in ``torchvision_names``.
    ``rename={"module": ""}`` removes the prefix "module". Without it, a prefix is removed if the other names then are
    the model's: "module." of DistributedDataParallel, "_orig_mod." of torch.compile, "model." of a LightningModule, or
    any other layer's around the model (see ``find_prefix``).

    Raises:
        ZooError: a name in ``rename`` matches nothing in the file; two tensors would get the same name; several
            networks in the file have the model's names.
    """
    own, weights = set(model.state_dict()), list(weights)
    for old in rename or {}:
        if not any(under(name, old) for name in weights):
            raise ZooError(f"init.rename: nothing is named {old} in the weights; tensors: {', '.join(weights)}")
    kind = type(model)
    older = formats.TENSORS.get(f"{kind.__module__}.{kind.__qualname__}", {})
    theirs = model.torchvision_names if isinstance(model, KnownToTorchvision) else {}
    known: dict[str, str] = {**theirs, **older}
    names = {name: name for name in weights if name in own}
    for name in weights:
        if any(under(name, old) for old in rename or {}):
            names[name] = translate(name, {**known, **(rename or {})})
    bare = {name: without_compiled(name) for name in weights if name not in names}
    prefix = find_prefix(own, [*names.values(), *bare.values()], known)
    for name, short in bare.items():
        inner = short.removeprefix(f"{prefix}.") if prefix else short
        names[name] = inner if inner in own else translate(inner, known)
    names = {name: names[name] for name in weights}  # in the file's order
    if len(set(names.values())) < len(names):
        twice = next(new for new in names.values() if list(names.values()).count(new) > 1)
        raise ZooError(f"the weights: {' and '.join(o for o, n in names.items() if n == twice)} would all be {twice}")
    return names


def under(name: str, layer: str) -> bool:
    """Whether a dotted name is that of the layer or of something in it."""
    return name == layer or name.startswith(f"{layer}.")


def translate(name: str, known: Mapping[str, str]) -> str:
    """The name with the longest layer name in ``known`` that begins it replaced; the name itself if none does."""
    fitting = [old for old in known if under(name, old)]
    old = max(fitting, key=len, default="")
    return (known[old] + name[len(old) :]).lstrip(".") if fitting else name


def without_compiled(name: str) -> str:
    """The name without the layers that torch.compile adds."""
    return ".".join(part for part in name.split(".") if part != COMPILED)


def find_prefix(own: set[str], names: list[str], known: Mapping[str, str]) -> str:
    """The layer around the model in a file, such as "module"; "" if there is none.

    It is the layer in which the most names are the model's, if these are more than without it and at least half of the
    model's own.

    Args:
        own: the names of the model's tensors.
        names: the names in the file.
        known: translations of layer names.

    Raises:
        ZooError: two layers fit equally well, so that the file holds several networks.
    """
    fits: Counter[str] = Counter()
    for name in names:
        parts = name.split(".", DEEPEST)
        for place in range(min(len(parts), DEEPEST + 1)):
            rest = name[len(".".join(parts[:place])) :].lstrip(".")
            if rest in own or translate(rest, known) in own:
                fits[".".join(parts[:place])] += 1
    needed = sum(not name.endswith(COUNTS) for name in own) / 2
    most = max(fits.values(), default=0)
    best = [prefix for prefix, count in fits.items() if count == most]
    if most < needed or most <= fits[""]:
        return ""
    if len(best) > 1:
        others = ",".join(best[1:])
        raise ZooError(
            f"the weights hold several networks with the model's names: {', '.join(best)}. To take the first: "
            f"""'init.rename={{{best[0]}:""}}' 'init.skip=[{others}]'"""
        )
    return best[0]
