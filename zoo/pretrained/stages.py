"""The stages of a model of images: the last layer at each resolution, whose outputs detection and segmentation read."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.config.checks import locate
from zoo.contracts import OfSize
from zoo.errors import ZooError
from zoo.pretrained.features import check_names, default_layers, features, outputs
from zoo.pretrained.transfer import head_names


class Feature(NamedTuple):
    """What one output of a feature extractor is.

    Attributes:
        module: the layer's name.
        num_chs: the number of channels of a map, or the number of features (the last dimension) of another output.
        reduction: how many times a map is smaller than the image; None for an output that is no map.
    """

    module: str
    num_chs: int
    reduction: float | None


class FeatureInfo(list[Feature]):
    """A ``Feature`` for each output of a feature extractor; the methods have timm's names."""

    def channels(self) -> list[int]:
        return [feature.num_chs for feature in self]

    def reduction(self) -> list[float | None]:
        return [feature.reduction for feature in self]

    def module_name(self) -> list[str]:
        return [feature.module for feature in self]


class FeatureExtractor(nn.Module):
    """A model that returns a list with the features of some layers instead of logits.

    Args:
        model: the whole model.
        which: the names of layers, "all" for all layers with parameters except the heads, or True for the last layer
            at each resolution (``stages``).
        out_indices: with True, the numbers of the stages to return; None for all.
        x: an example input, which shows what the layers give; None if there is none.

    Attributes:
        layers: the names of the layers, in the order of the returned list.
        feature_info: what each output is; empty without an example input.
    """

    def __init__(
        self,
        model: nn.Module,
        which: bool | str | Sequence[str],
        x: Tensor | None,
        out_indices: Sequence[int] | None = None,
    ):
        super().__init__()
        self.model = model
        if which is not True and out_indices is not None:
            raise ZooError("out_indices counts the stages of features_only=True; give that, or name the layers instead")
        if which is True and x is not None:
            self.layers = chosen(stages(model, x), out_indices)
        elif which in (True, "all"):
            self.layers = chosen(default_layers(model), out_indices)
        else:
            self.layers = [which] if isinstance(which, str) else list(which)  # type: ignore[arg-type]
        check_names(model, self.layers)
        self.feature_info = FeatureInfo() if x is None else describe(model, x, self.layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        return list(features(self.model, x, self.layers).values())


def describe(model: nn.Module, x: Tensor, layers: Sequence[str]) -> FeatureInfo:
    """What the named layers give, found with one batch x; layers that it does not call are left out."""
    found = called(model, x, layers)
    return FeatureInfo(feature(name, found[name], x) for name in layers if torch.is_tensor(found.get(name)))


def feature(name: str, output: Tensor, x: Tensor) -> Feature:
    if output.ndim != 4 or x.ndim != 4:
        return Feature(name, output.shape[-1], None)
    ratio = round(x.shape[-1] / output.shape[-1], 2)
    return Feature(name, output.shape[1], int(ratio) if ratio.is_integer() else ratio)


def stages(model: nn.Module, x: Tensor) -> list[str]:
    """The names of the last layer at each resolution, from large maps to small ones; for a model that makes no maps of
    images, all layers (``default_layers``).

    Not counted are heads, maps of a single pixel, and maps that become larger again, as in a decoder.
    """
    heads = {name.partition(".")[0] for name in head_names(model)}
    names = [name for name, _ in model.named_modules() if name and name.partition(".")[0] not in heads]
    last: dict[int, tuple[str, Tensor]] = {}  # by the number of pixels, which falls from one entry to the next
    for name, output in called(model, x, names).items():
        if not torch.is_tensor(output) or output.ndim != 4 or x.ndim != 4:
            continue
        pixels = output.shape[2] * output.shape[3]
        if pixels == 1 or pixels > min(last, default=pixels):
            continue
        before, kept = last.get(pixels, (name, None))
        # blocks count before the layers in them: a block may begin with a norm at the resolution of the one before
        depth = name.count(".") - before.count(".")
        if depth < 0 or (depth == 0 and output is not kept):
            last[pixels] = (name, output)
    return [name for name, _ in last.values()] or default_layers(model)


def called(model: nn.Module, x: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """The outputs of the layers that the forward pass calls, in the order in which they end. The model's state and the
    random numbers stay as they are.
    """
    training = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad(), torch.random.fork_rng():
            return outputs(model.eval(), x, names)
    finally:
        for module, mode in training.items():
            module.training = mode


def chosen(layers: Sequence[str], indices: Sequence[int] | None) -> list[str]:
    """The stages of these numbers (``out_indices``), all for None; negative numbers count from the end."""
    if indices is None:
        return list(layers)
    if not indices or any(not -len(layers) <= i < len(layers) for i in indices):
        valid = ", ".join(f"{i} {name}" for i, name in enumerate(layers))
        raise ZooError(f"out_indices={list(indices)} is not valid: give numbers of stages: {valid}")
    return [layers[i] for i in indices]


def example_sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes of an example for a model of this config: its own, the class's defaults, or else those of MNIST, and
    for tokens of a text of 65 characters.
    """
    sizes: dict[str, Any] = {"num_classes": 10, "in_channels": 1, "image_size": 28}
    parameters = inspect.signature(locate(config["_target_"], "model")).parameters
    if "vocab_size" in parameters:
        sizes = dict.fromkeys(("num_classes", "vocab_size"), 65)
    for key in sizes:
        for size in (config.get(key), parameters[key].default if key in parameters else None):
            if isinstance(size, int):
                sizes[key] = size
                break
    return sizes


def example_input(model: nn.Module, sizes: Mapping[str, int]) -> Tensor | None:
    """A random input for a model of these sizes; None if it takes neither images nor tokens."""
    with torch.random.fork_rng():
        if "vocab_size" in sizes:
            return torch.randint(sizes["vocab_size"], (1, 32))
        side = model.image_size if isinstance(model, OfSize) else sizes["image_size"]
        x = torch.randn(1, sizes["in_channels"], side, side)
    try:
        called(model, x, ())
    except (RuntimeError, TypeError, ValueError, IndexError):  # it takes another kind of input
        return None
    return x
