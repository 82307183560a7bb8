"""Create a model by its config's name; load a trained one, from a shipped name or a file, and run nothing in it."""

import hashlib
import inspect
import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.config import formats
from zoo.config.build import build
from zoo.config.checks import locate
from zoo.config.plain import check_bounded
from zoo.config.registry import list_models, model_config, suggest
from zoo.contracts import OfSize, Preprocess
from zoo.data.decoded import total_memory
from zoo.data.integrity import read_file
from zoo.data.tokens import Tokenizer
from zoo.errors import ZooError
from zoo.pretrained.card import Card, list_weights, shipped
from zoo.pretrained.features import FeatureExtractor
from zoo.pretrained.skeleton import built, skeleton
from zoo.pretrained.transfer import FINE, Mismatch, copy_weights, head_names, new_names, under
from zoo.pretrained.weight_files import check_dense, check_file, check_sizes, first_byte

__all__ = ["build", "create", "list_models", "list_weights", "load", "read_checkpoint", "read_weights"]


def create(
    name: str, weights: str | Path | None = None, features_only: bool | Sequence[str] = False, **arguments: Any
) -> nn.Module:
    """Build a model by the name of its config.

    Args:
        name: a file of ``configs/model/``, the zoo's or your own.
        weights: fill it from a shipped name, a file, or "torchvision:resnet18"; a head of another size keeps its
            initial value.
        features_only: a module that returns features instead of logits: a list of the outputs of the named layers,
            or, for True, of all layers with parameters but the heads.
        arguments: the model's own: ``num_classes`` (0 for pooled features instead of logits), ``in_channels`` …

    Raises:
        ZooError: unknown name or argument, weights that do not fit.
    """
    # sizes that a data set would give keep the class's own default here
    config = {k: v for k, v in model_config(name).items() if not (isinstance(v, str) and "${" in v)}
    model = build(config | arguments, trust=None)
    if weights is not None:
        state = read_weights(weights)
        load_exactly(model, state, f"{weights} does not fit {name}", skip=other_heads(model, state))
    if features_only:
        return FeatureExtractor(model, None if features_only is True else list(features_only))
    return model


def other_heads(model: nn.Module, weights: dict[str, Tensor]) -> list[str]:
    """The heads that weights have in another size than a model, and those that it has not, with their branches."""
    own = {name: p.shape for name, p in model.state_dict().items()}
    theirs = {new: weights[old].shape for old, new in new_names(model, weights).items()}
    found: list[str] = []
    for head in head_names(model):
        branch = head.partition(".")[0]  # an auxiliary head stands at the end of one
        if not any(under(name, branch) for name in own):
            head = branch
        given = {name: shape for name, shape in theirs.items() if under(name, head)}
        if given and given != {name: shape for name, shape in own.items() if under(name, head)}:
            found.append(head)
    return list(dict.fromkeys(found))


def example(name: str) -> tuple[nn.Module, Tensor | None]:
    """An untrained model by its config's name, in eval mode, and an example of noise that it takes, if one is known.

    Sizes that neither the config nor the class gives are those of MNIST, and for tokens of a text's characters.
    """
    sizes: dict[str, Any] = {"num_classes": 10, "in_channels": 1, "image_size": 28}
    config = model_config(name)
    parameters = inspect.signature(locate(config["_target_"], "model")).parameters
    if "vocab_size" in parameters:
        sizes = dict.fromkeys(("num_classes", "vocab_size"), 65)
    for key in sizes:
        for size in (config.get(key), parameters[key].default if key in parameters else None):
            if isinstance(size, int):
                sizes[key] = size
                break
    model = create(name, **{key: size for key, size in sizes.items() if key in parameters}).eval()
    if "vocab_size" in parameters:
        return model, torch.randint(sizes["vocab_size"], (1, 32))
    if isinstance(model, OfSize):
        sizes["image_size"] = model.image_size
    x = torch.randn(1, sizes["in_channels"], sizes["image_size"], sizes["image_size"])
    try:
        with torch.no_grad():
            model(x)
    except (RuntimeError, TypeError, ValueError, IndexError):  # it takes something else
        return model, None
    return model, x


def load(source: str | Path, trust: Sequence[str] = ()) -> nn.Module:
    """A trained model in eval mode, from a shipped name or a file of your own.

    Args:
        source: a name of ``list_weights()``; the path of a checkpoint that training wrote; or of a safetensors file
            that has its card beside it.
        trust: what you know: modules of your own that the file's config may name, and paths in it, "data.file=my.txt".

    Returns:
        The module, with ``preprocess`` (``model(model.preprocess(model.preprocess.read("digit.png")))`` are logits),
        ``classes`` and ``card``.

    Raises:
        ZooError: unknown name, damaged or foreign file, a file that would run code (it is not run).
    """
    card, weights = read(source)
    complaint = f"{source} is damaged: its weights are not of the model that its card names"
    if (empty := skeleton(card.model, len(weights), trust)) is not None:
        load_exactly(empty, weights, complaint)  # says what does not fit before the model takes any memory
    model: Any = built(card.model, trust)
    load_exactly(model, weights, complaint)
    model.preprocess = build(card.preprocess, "preprocess", trust)
    if not isinstance(model.preprocess, Preprocess):
        raise ZooError(f"{source} is not a card: {card.preprocess.get('_target_')} prepares no inputs")
    check_vocabulary(card, model.preprocess)
    model.classes = card.classes
    model.card = card
    return model.eval()


def check_vocabulary(card: Card, preprocess: Any) -> None:
    """Raise a ``ZooError`` where a tokenizer's tokens are more or fewer than a model's."""
    size = card.model.get("vocab_size")
    if isinstance(preprocess, Tokenizer) and size is not None and size != len(preprocess.vocabulary):
        raise ZooError(
            f"{card.name} is damaged: its tokenizer has {len(preprocess.vocabulary):,} tokens, its model {size}"
        )


def read(source: str | Path) -> tuple[Card, dict[str, Tensor]]:
    """The card of a shipped name or of a file, and its tensors; see ``load``."""
    card_file = card_beside(source)
    if card_file is not None:
        card = Card.read(card_file)
        return card, read_safetensors(card_file.with_suffix(".safetensors"), card)
    content = read_checkpoint(checkpoint_file(source))
    if not isinstance(content, dict) or "card" not in content:
        raise ZooError(
            f"{source} is no checkpoint of this zoo: it does not say which model it is of; to use it as bare "
            f"weights: init.weights={source}, or zoo.create(…, weights={str(source)!r})"
        )
    return Card.of(content["card"], str(source)), tensors(content, Path(source))


def load_exactly(model: nn.Module, weights: dict[str, Tensor], complaint: str, skip: Sequence[str] = ()) -> None:
    """Copy weights that must fit; a ``ZooError`` begins with the complaint and names what does not."""
    try:
        copy_weights(model, weights, skip)
    except Mismatch as mismatch:
        names = [f"{row.name} ({row.status})" for row in mismatch.rows if row.status not in FINE]
        raise ZooError(f"{complaint}: {', '.join(names[:6])}{', …' if len(names) > 6 else ''}") from None


# --- reading files ----------------------------------------------------------------------------------------------------


def card_beside(source: str | Path) -> Path | None:
    """The card of a shipped name, or of a safetensors file that has one beside it."""
    cards = shipped()
    if str(source) in cards:
        return cards[str(source)]
    beside = Path(source).with_suffix(".json") if str(source).endswith(".safetensors") else None
    return beside if beside and beside.is_file() else None


def checkpoint_file(source: str | Path) -> Path:
    """The path, or a ``ZooError`` where nothing is there."""
    path = Path(source)
    if path.is_dir():
        inside = next((str(p) for name in ("best", "last") for p in sorted(path.glob(f"**/{name}.ckpt"))), None)
        raise ZooError(f"{path} is a folder; give a checkpoint in it{f': {inside}' if inside else ''}")
    if path.suffix == ".safetensors" and path.exists():
        raise ZooError(
            f"{path} has no card beside it ({path.with_suffix('.json').name}), so nothing says which model it is of; "
            f"to use it as bare weights: init.weights={path}, or zoo.create(…, weights={str(path)!r})"
        )
    if path.exists():
        return path
    if path.suffix or "/" in str(source):
        raise ZooError(f"{source}: no such file")
    if source in list_models():
        names = ", ".join(list_weights()) or "none"
        raise ZooError(f"{source} is a model, not trained yet: zoo train model={source}; shipped weights: {names}")
    raise suggest(str(source), list_weights(), "shipped weight", "the path of a checkpoint")


def read_weights(source: str | Path) -> dict[str, Tensor]:
    """The tensors of a shipped name, a checkpoint, a safetensors file or a saved state_dict, by parameter name.

    ``torchvision:NAME`` is torchvision's own weights of that model of its, for ImageNet; ``copy_weights`` knows what
    the zoo's models call them.

    Raises:
        ZooError: as ``load``; a shipped file that is not what its card says; weights that cannot be fetched.
    """
    if str(source).startswith("torchvision:"):
        from zoo.pretrained.hub import fetch_torchvision  # which reads checkpoints as this module does

        return fetch_torchvision(str(source).partition(":")[2])
    path = Path(source)
    if str(source) in shipped():
        card_file = shipped()[str(source)]
        return read_safetensors(card_file.with_suffix(".safetensors"), Card.read(card_file))
    if not path.exists():
        raise suggest(str(source), list_weights(), "shipped weight or file", "torchvision:MODEL")
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    return tensors(read_checkpoint(checkpoint_file(path)), path)


def read_safetensors(path: Path, card: Card | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file; where it has a card, only if it is the file that the card describes."""
    from safetensors.torch import load as load_safetensors

    try:
        content = read_file(path, total_memory() or 10**15, "of this machine's memory")
    except OSError as error:
        hint = "; it belongs to the card beside it: install the zoo again" if card else ""
        raise ZooError(f"{path} cannot be read: {error.strerror}{hint}") from None
    if card and hashlib.sha256(content).hexdigest() != card.sha256:
        raise ZooError(f"{path} is not the file its card describes (sha256 differs): install the zoo again")
    try:
        weights = load_safetensors(content)
    except Exception as error:  # safetensors has an exception class of its own in a private module
        raise ZooError(f"{path} is not a safetensors file: {' '.join(str(error).split())}") from None
    check_dense(weights, path)
    return formats.current_tensors(weights, card.model) if card else weights


def tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """The model's tensors in the content of a checkpoint or of a saved state_dict."""
    content = content if isinstance(content, dict) else {}
    state = content.get("state_dict", content)
    prefix = "model." if "card" in content else ""
    found = state.items() if isinstance(state, dict) else ()
    weights = {k.removeprefix(prefix): v for k, v in found if str(k).startswith(prefix) and torch.is_tensor(v)}
    if not weights:
        raise ZooError(f"{path} holds no weights")
    check_dense(weights, path)
    return weights


def read_checkpoint(path: Path) -> Any:
    """The content of a file of torch.save, read without running anything that is in it; that of a checkpoint in
    today's format and by today's names (``zoo.config.formats``).
    """
    damaged = ZooError(f"{path} is not a checkpoint, or it is damaged")
    objects = "holds Python objects that would run code when loaded"
    try:
        first = first_byte(path)
    except OSError as error:
        raise ZooError(f"{path} cannot be read: {error.strerror or error}") from None
    if first not in (b"P", b"\x80"):  # torch's zip, or a pickle as it wrote before; a text is neither
        raise damaged
    check_file(path, zipped=first == b"P")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of files that are then refused
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "global" in str(error).lower() or "Unsupported class" in str(error):
            raise ZooError(f"{path} {objects}, so it was not loaded") from None
        if first == b"\x80":
            raise ZooError(f"{path} {objects}, or it is damaged; it was not loaded") from None
        raise damaged from None
    except Exception:  # whatever the zip reader and the unpickler make of bytes that are not theirs
        raise damaged from None
    check_bounded(content, str(path))
    check_sizes(content, path)
    return formats.current_checkpoint(content, str(path))
