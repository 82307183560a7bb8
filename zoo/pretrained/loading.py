"""Create a model by the name of its config; load a trained one by name or from a file, without running code in it."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

from torch import Tensor, nn

from zoo.config.build import build
from zoo.config.checks import locate
from zoo.config.registry import list_models, model_config
from zoo.contracts import Loaded, LoadedFeatures, Preprocess, ReadsImages, Storyteller
from zoo.data.joint import JointTokens
from zoo.data.tokens import Tokenizer
from zoo.errors import ZooError
from zoo.pretrained.card import Card, list_weights
from zoo.pretrained.names import new_names, under
from zoo.pretrained.reading import architecture, read, read_known
from zoo.pretrained.skeleton import built, skeleton
from zoo.pretrained.stages import FeatureExtractor, example_input, example_sizes
from zoo.pretrained.transfer import FINE, Mismatch, copy_weights, head_names

__all__ = ["create", "list_models", "list_weights", "load"]


def create(
    name: str,
    weights: str | Path | None = None,
    features_only: bool | str | Sequence[str] = False,
    out_indices: Sequence[int] | None = None,
    **arguments: Any,
) -> nn.Module:
    """Build a model by the name of its config.

    Args:
        name: the name of a file in ``configs/model/``, the zoo's or yours.
        weights: the weights to load: a shipped name, a file, or "torchvision:resnet18"; a head of another size keeps
            its initial values. The model is then in eval mode, else in training mode. Arguments that are not given are
            those of the weights' card, if that is of the same class.
        features_only: return a module that gives features instead of logits, as a list. True: a map for each stage,
            the output of the last layer at each resolution; "all": the outputs of all layers with parameters except
            the heads; else those of the named layers. Its ``feature_info`` has their names, channels and reductions.
        out_indices: with ``features_only=True``, which of the stages: (1, 2) or (-1,).
        arguments: the model's own arguments: ``num_classes`` (0 for pooled features instead of logits),
            ``in_channels`` …

    Raises:
        ZooError: an unknown name or argument, or weights that do not fit.
    """
    # sizes that a run would take from its data set keep the default of the model's class
    config = {k: v for k, v in model_config(name).items() if not (isinstance(v, str) and "${" in v)}
    options = (features_only, out_indices)
    if weights is None:
        return with_features(build(config | arguments, trust=None), config | arguments, *options)
    card, state = read_known(weights)
    known = {} if card is None else card_arguments(card, config["_target_"], len(state))
    model = build(config | known | arguments, trust=None)
    try:
        load_exactly(model, state, f"{weights} does not fit {name}", skip=other_heads(model, state))
    except Mismatch as mismatch:
        said = architecture(weights) if mismatch.other_architecture else ""
        raise ZooError(f"{mismatch}{said and '; '}{said}") from None
    return with_features(model.eval(), config | known | arguments, *options)


def card_arguments(card: Card, target: str, tensors: int) -> dict[str, Any]:
    """The arguments of the model that a card describes; none if it is of another class, or not of the zoo's.

    Args:
        target: the class that is built.
        tensors: the number of tensors in the card's file.
    """
    if card.model.get("_target_") != target or not target.startswith("zoo."):
        return {}
    skeleton(card.model, tensors, ())  # raises an error if the card names anything but plain arguments
    return dict(card.model)


def with_features(
    model: nn.Module,
    config: Mapping[str, Any],
    features_only: bool | str | Sequence[str],
    out_indices: Sequence[int] | None,
    x: Tensor | None = None,
) -> nn.Module:
    """The model, or with ``features_only`` a module that returns a list of its features.

    Args:
        x: an example input; None to make one by the model's config.
    """
    if features_only is False and out_indices is None:
        return model
    if x is None:
        x = example_input(model, example_sizes(config))
    return FeatureExtractor(model, features_only, x, out_indices).train(model.training)


def other_heads(model: nn.Module, weights: dict[str, Tensor]) -> list[str]:
    """The heads whose size in the weights differs from the model's, and branches with heads that the model lacks."""
    own = {name: p.shape for name, p in model.state_dict().items()}
    theirs = {new: weights[old].shape for old, new in new_names(model, weights).items()}
    found: list[str] = []
    for head in head_names(model):
        branch = head.partition(".")[0]  # an auxiliary head is the last layer of a branch
        if not any(under(name, branch) for name in own):
            head = branch
        given = {name: shape for name, shape in theirs.items() if under(name, head)}
        if given and given != {name: shape for name, shape in own.items() if under(name, head)}:
            found.append(head)
    return list(dict.fromkeys(found))


def example(name: str) -> tuple[nn.Module, Tensor | None]:
    """An untrained model by the name of its config, in eval mode, and a random example input; None if the model does
    not take images, tokens or spectrograms.

    Sizes that neither the config nor the class sets are those of MNIST or, for tokens, of a text of 65 characters.
    """
    config = model_config(name)
    sizes = example_sizes(config)
    parameters = inspect.signature(locate(config["_target_"], "model")).parameters
    model = create(name, **{key: size for key, size in sizes.items() if key in parameters}).eval()
    return model, None if isinstance(model, Storyteller) else example_input(model, sizes)


@overload
def load(
    source: str | Path,
    trust: Sequence[str] = (),
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    features_only: Literal[False] = False,
) -> Loaded: ...
@overload
def load(
    source: str | Path,
    trust: Sequence[str] = (),
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    features_only: Literal[True] | str | Sequence[str],
    out_indices: Sequence[int] | None = None,
) -> LoadedFeatures: ...
def load(
    source: str | Path,
    trust: Sequence[str] = (),
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    features_only: bool | str | Sequence[str] = False,
    out_indices: Sequence[int] | None = None,
) -> Loaded:
    """A trained model in eval mode, from a shipped name or a file of yours.

    Args:
        source: a name in ``list_weights()``, the path of a checkpoint written by training, the path of a safetensors
            file with its card beside it, or a model on the Hugging Face hub: "hf:owner/name", "hf:owner/name@revision".
        trust: what the file's config may refer to: Python modules of yours, and paths such as "data.file=my.txt".
        num_classes: another number of classes than the weights have: the head has random initial values, to be trained;
            0 for pooled features instead of logits.
        in_channels: 1 for grey or 3 for colour images; the first convolution is adapted, and gives for a grey image
            the same as before.
        features_only, out_indices: a module that gives a list of features, as in ``create``.

    Returns:
        The module, with the attributes ``preprocess``, ``classes`` and ``card``. Its logits for an image file are
        ``model(model.preprocess(model.preprocess.read("digit.png")))``.

    Raises:
        ZooError: an unknown name, a damaged or foreign file, or a file that would run code (the code is not run).
    """
    card, weights = read(source)
    complaint = f"{source} is damaged: its weights are not of the model that its card names"
    if (empty := skeleton(card.model, len(weights), trust)) is not None:
        load_exactly(empty, weights, complaint)  # reports what does not fit before the model takes any memory
    check_sizes(num_classes, in_channels)
    asked = {"num_classes": num_classes, "in_channels": in_channels}
    changes = {key: value for key, value in asked.items() if value is not None and value != card.model.get(key)}
    model = built({**card.model, **changes}, trust)
    load_exactly(model, weights, complaint, other_heads(model, weights) if "num_classes" in changes else ())
    preprocess = build(card.preprocess, "preprocess", trust)
    if not isinstance(preprocess, Preprocess):
        raise ZooError(f"{source} is not a card: {card.preprocess.get('_target_')} does not prepare inputs")
    check_vocabulary(card, preprocess)
    if "in_channels" in changes:
        preprocess = for_channels(preprocess, changes["in_channels"])
    x = preprocess.random_input(1) if features_only else None
    loaded: Any = with_features(model.eval(), card.model, features_only, out_indices, x)
    if isinstance(preprocess, ReadsImages):
        loaded.register_forward_pre_hook(check_batch)
    loaded.preprocess = preprocess
    loaded.classes = [] if "num_classes" in changes or features_only else card.classes
    loaded.card = card
    return loaded


def check_batch(model: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Raise a ``ZooError`` if a model of images is called with a single one, (C, H, W)."""
    x = inputs[0] if inputs else None
    if isinstance(x, Tensor) and x.ndim == 3:
        raise ZooError(
            f"an input of shape {tuple(x.shape)} has no batch dimension: for a single image call the model with x[None]"
        )


def for_channels(preprocess: Any, channels: int) -> Any:
    """The preprocessing for 1 or 3 channels: the grey mean for each colour, or the colours' mean.

    Pictures are then scaled as a whole: the rules of MNIST's and Fashion-MNIST's makers are for grey images.
    """
    means = {name: sum(values := getattr(preprocess, name)) / len(values) for name in ("mean", "std")}
    return replace(preprocess, fit="resize", **{name: [value] * channels for name, value in means.items()})


def check_sizes(num_classes: int | None, in_channels: int | None) -> None:
    """Raise a ``ZooError`` for sizes that no trained model can be changed to."""
    if num_classes is not None and num_classes < 0:
        raise ZooError(f"num_classes={num_classes} is not valid: 0 for features, or the number of classes")
    if in_channels not in (None, 1, 3):
        raise ZooError(f"in_channels={in_channels} is not valid: a first convolution is adapted to 1 or 3 channels")


def check_vocabulary(card: Card, preprocess: Any) -> None:
    """Raise a ``ZooError`` if the tokenizer and the model have vocabularies of different sizes."""
    size = card.model.get("vocab_size")
    if isinstance(preprocess, (Tokenizer, JointTokens)) and size is not None and size != len(preprocess.vocabulary):
        raise ZooError(
            f"{card.name} is damaged: its tokenizer has {len(preprocess.vocabulary):,} tokens, its model {size}"
        )


def load_exactly(model: nn.Module, weights: dict[str, Tensor], complaint: str, skip: Sequence[str] = ()) -> None:
    """Copy weights into a model; if some do not fit, raise a ``ZooError`` with the complaint and their names."""
    try:
        copy_weights(model, weights, skip)
    except Mismatch as mismatch:
        names = [f"{row.name} ({row.status})" for row in mismatch.rows if row.status not in FINE]
        shown = f"{', '.join(names[:6])}{', …' if len(names) > 6 else ''}"
        raise Mismatch(f"{complaint}: {shown}", mismatch.rows, mismatch.other_architecture) from None
