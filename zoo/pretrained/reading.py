"""Read weights, cards and checkpoints from files that need not be trusted."""

import hashlib
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.config import formats
from zoo.config.files import read_file
from zoo.config.plain import check_bounded, shortened
from zoo.config.registry import list_models, model_config, suggest
from zoo.data.decoded import total_memory
from zoo.errors import ZooError
from zoo.paths import CONFIGS, in_home
from zoo.pretrained.card import Card, list_weights, shipped
from zoo.pretrained.hugging_face import fetch_repository
from zoo.pretrained.on_demand import weights_file
from zoo.pretrained.weight_files import check_dense, check_file, check_sizes, first_byte

# Where training scripts keep a model's state_dict in their checkpoints, the trained weights before their average:
# Lightning, timm and fairseq; DETR and ConvNeXt; torch's tutorials; BasicSR; DeepSpeed
WRAPPERS = (
    "state_dict", "model_state_dict", "model", "net", "network", "params", "module",
    "ema_state_dict", "state_dict_ema", "model_ema", "params_ema", "ema",
)  # fmt: skip


def read(source: str | Path) -> tuple[Card, dict[str, Tensor]]:
    """The card and the tensors of a shipped name or of a file; see ``load``."""
    source = in_home(source)
    card_file = card_beside(source)
    if card_file is not None:
        card = Card.read(card_file)
        ours = str(source) in shipped()
        return card, read_safetensors(
            weights_file(str(source), card) if ours else card_file.with_suffix(".safetensors"), card
        )
    content = read_checkpoint(checkpoint_file(source))
    if not isinstance(content, dict) or "card" not in content:
        raise ZooError(
            f"{source} is no checkpoint of this zoo: it does not say which model it belongs to; to use it "
            f"as bare weights: init.weights={source}, or zoo.create(…, weights={str(source)!r})"
        )
    return Card.of(content["card"], str(source)), tensors(content, Path(source))


def read_known(source: str | Path) -> tuple[Card | None, dict[str, Tensor]]:
    """The tensors as ``read_weights`` gives them, and the card if the source has one."""
    source = in_home(source)
    path = Path(source)
    if card_beside(source) is not None:
        return read(source)
    if path.is_file() and path.suffix != ".safetensors":
        content = read_checkpoint(path)
        carded = isinstance(content, dict) and "card" in content
        return Card.of(content["card"], str(source)) if carded else None, tensors(content, path)
    return None, read_weights(source)


def architecture(source: str | Path) -> str:
    """A sentence with the zoo's name for the model of weights, by their card; "" if they have none that can be read."""
    try:
        card, _ = read_known(source)
    except ZooError:
        return ""
    if card is None:
        return ""
    made, differing = card.model, {}
    for name in sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml")):
        config = model_config(name)
        if config["_target_"] == made.get("_target_"):
            of_data = [key for key, value in config.items() if isinstance(value, str) and "${" in value]
            differing[name] = [key for key in config if key not in of_data and config[key] != made.get(key)]
    if not differing:
        return f"their card says that they are of the class {made.get('_target_')}"
    name = min(differing, key=lambda name: len(differing[name]))
    other = f", with other values of {', '.join(differing[name])}: see zoo info {source}" if differing[name] else ""
    return f"their card says that they are of model={name}{other}"


def card_beside(source: str | Path) -> Path | None:
    """The path of the card of a shipped name, of a model on the hub, or beside a safetensors file; None if there is no
    card.
    """
    cards = shipped()
    if str(source) in cards:
        return cards[str(source)]
    if str(source).startswith("hf:"):
        return fetch_repository(str(source))
    beside = Path(source).with_suffix(".json") if str(source).endswith(".safetensors") else None
    return beside if beside and beside.is_file() else None


def checkpoint_file(source: str | Path) -> Path:
    """The path of a checkpoint; a ``ZooError`` with advice if there is no such file."""
    path = Path(source)
    if path.is_dir():
        inside = next((str(p) for name in ("best", "last") for p in sorted(path.glob(f"**/{name}.ckpt"))), None)
        raise ZooError(f"{path} is a folder; give a checkpoint in it{f': {inside}' if inside else ''}")
    if path.suffix == ".safetensors" and path.exists():
        raise ZooError(
            f"{path} has no card beside it ({path.with_suffix('.json').name}), so its model is unknown; "
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

    In another program's checkpoint, the state_dict is looked for under the keys ``WRAPPERS``, in this order.

    ``torchvision:NAME`` means torchvision's own ImageNet weights of its model NAME; ``copy_weights`` translates their
    parameter names to the zoo's.

    Raises:
        ZooError: as ``load``; a shipped file that does not match its card; weights that cannot be downloaded.
    """
    if str(source).startswith("torchvision:"):
        from zoo.pretrained.hub import fetch_torchvision  # imported here, as that module imports this one

        return fetch_torchvision(str(source).partition(":")[2])
    if str(source).startswith("hf:"):
        return read(source)[1]
    path = Path(in_home(source))
    if str(source) in shipped():
        card = Card.read(shipped()[str(source)])
        return read_safetensors(weights_file(str(source), card), card)
    if not path.exists() and (path.suffix or "/" in str(source)):
        raise ZooError(f"{path}: no such file")
    if not path.exists():
        raise suggest(str(source), list_weights(), "shipped weight or file", "torchvision:MODEL")
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    return tensors(read_checkpoint(checkpoint_file(path)), path)


def read_safetensors(path: Path, card: Card | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file; with a card, a ``ZooError`` unless it is the file that the card describes."""
    from safetensors.torch import load as load_safetensors

    try:
        content = read_file(path, total_memory() or 10**15, "of this machine's memory")
    except OSError as error:
        raise ZooError(f"{path} cannot be read: {error.strerror}") from None
    if card and hashlib.sha256(content).hexdigest() != card.sha256:
        raise ZooError(
            f"{path} is not the file its card describes (sha256 differs): replace it, or install "
            f"the zoo again if it came with it"
        )
    try:
        weights = load_safetensors(content)
    except Exception as error:  # safetensors has an exception class of its own in a private module
        raise ZooError(f"{path} is not a safetensors file: {' '.join(str(error).split())}") from None
    check_dense(weights, path)
    return formats.current_tensors(weights, card.model) if card else weights


def tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """The model's tensors, by parameter name, from the content of a checkpoint or of a saved state_dict."""
    content = content if isinstance(content, dict) else {}
    ours = "card" in content
    state = content.get("state_dict", {}) if ours else unwrapped(content)
    prefix = "model." if ours else ""
    found = [(k, v) for k, v in state.items() if isinstance(k, str)] if isinstance(state, dict) else []
    weights = {k.removeprefix(prefix): v for k, v in found if k.startswith(prefix) and torch.is_tensor(v)}
    if not weights:
        raise ZooError(f"{path} holds no weights{other_places(content)}")
    check_dense(weights, path)
    return weights


def unwrapped(content: dict[Any, Any]) -> dict[Any, Any]:
    """The dictionary in ``content`` that holds tensors under one of ``WRAPPERS``; ``content`` itself if none does."""
    inner = (unwrapped(content[key]) for key in WRAPPERS if isinstance(content.get(key), dict))
    return next((found for found in inner if any(map(torch.is_tensor, found.values()))), content)


def other_places(content: dict[Any, Any]) -> str:
    """What to do about a file whose tensors lie under other keys than ``WRAPPERS``; "" if it has none at all."""
    keys = [
        key for key, value in content.items() if isinstance(value, dict) and any(map(torch.is_tensor, value.values()))
    ]
    if not keys:
        return ""
    shown = ", ".join(shortened(key) for key in keys[:6]) + (", …" if len(keys) > 6 else "")
    return (
        f" under {', '.join(WRAPPERS)}, but tensors under {shown}: save those of the model alone, by "
        f"torch.save(torch.load(PATH, weights_only=True)[{shortened(keys[0])}], NEW_PATH)"
    )


def read_checkpoint(path: Path) -> Any:
    """The content of a file written by torch.save, read without running any code in it. The content of a checkpoint is
    converted to the current format and names (``zoo.config.formats``).
    """
    damaged = ZooError(f"{path} is not a checkpoint, or it is damaged")
    objects = "holds Python objects that would run code when loaded"
    try:
        first = first_byte(path)
    except OSError as error:
        raise ZooError(f"{path} cannot be read: {error.strerror or error}") from None
    if first not in (b"P", b"\x80"):  # torch's zip, or the pickle of older versions
        raise damaged
    check_file(path, zipped=first == b"P")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about files that are then refused
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "global" in str(error).lower() or "Unsupported class" in str(error):
            raise ZooError(f"{path} {objects}, so it was not loaded") from None
        if first == b"\x80":
            raise ZooError(f"{path} {objects}, or it is damaged; it was not loaded") from None
        raise damaged from None
    except Exception:  # zip reader and unpickler may raise anything on damaged bytes
        raise damaged from None
    check_bounded(content, str(path))
    check_sizes(content, path)
    return formats.current_checkpoint(content, str(path))
