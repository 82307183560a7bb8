"""Create a model by its config's name; load a trained one, from a shipped name or a checkpoint file."""

import difflib
import hashlib
import inspect
import pickle
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from zoo.card import Card, shipped
from zoo.errors import ZooError
from zoo.features import FeatureExtractor
from zoo.paths import CONFIGS
from zoo.transfer import copy_weights


def list_models() -> list[str]:
    """The names ``create`` knows."""
    return sorted({path.stem for folder in model_folders() for path in folder.glob("*.yaml")})


def list_weights() -> list[str]:
    """The names ``load`` knows."""
    return list(shipped())


def model_folders() -> list[Path]:
    """The zoo's model configs, then the user's own in ./configs/model."""
    return [CONFIGS / "model", Path("configs/model")]


def suggest(name: str, valid: Sequence[str], what: str) -> ZooError:
    """The error for a name that is none of the valid ones."""
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ";"
    return ZooError(f"no {what} is named {name!r}{hint} valid: {', '.join(valid)}")


def create(
    name: str, weights: str | Path | None = None, features_only: bool | Sequence[str] = False, **arguments: Any
) -> nn.Module:
    """Build a model by the name of its config.

    Args:
        name: a file of ``configs/model/``.
        weights: fill it from a shipped name or a file; a head of another size keeps its initial value.
        features_only: a module that returns features instead of logits: a list of the outputs of the named layers,
            or, for True, of all layers with parameters but the head.
        arguments: the model's own: ``num_classes`` (0 for pooled features instead of logits), ``in_channels`` …

    Raises:
        ZooError: unknown name or argument, weights that do not fit.
    """
    path = next((p for folder in model_folders() if (p := folder / f"{name}.yaml").exists()), None)
    if path is None:
        raise suggest(name, list_models(), "model")
    config = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert isinstance(config, dict)
    # sizes that a data set would give keep the class's own default here
    config = {str(k): v for k, v in config.items() if not (isinstance(v, str) and "${" in v)}
    model = build(config | arguments, trust=None)
    if weights is not None:
        state = read_weights(weights)
        own = model.state_dict()
        resized = any(k.startswith("head.") and k in state and v.shape != state[k].shape for k, v in own.items())
        headless = not any(k.startswith("head.") for k in own)
        copy_weights(model, state, skip=["head"] if resized or headless else [])
    if features_only:
        return FeatureExtractor(model, None if features_only is True else list(features_only))
    return model


# A config that came with a file may name what is defined here, and nothing else: no function that a module of the zoo
# merely imported or that touches the machine. Hydra's own block list is no boundary.
TRUSTED = ("zoo.models", "zoo.tasks", "zoo.data", "torch.nn.modules")
TRUSTED_FUNCTIONS = ("zoo.models",)  # builders of variants


def build(config: Mapping[str, Any], where: str = "model", trust: Sequence[str] | None = (), **arguments: Any) -> Any:
    """Instantiate a config of a model, a task or data.

    Args:
        where: how the command line calls it, for messages.
        trust: modules of the user's own that a config from a file may name besides the zoo's; None trusts the config
            altogether (it is the caller's own).
        arguments: further arguments.

    Raises:
        ZooError: a target that is not trusted; an argument that its class does not take.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    from zoo.config import check_node

    if trust is not None:
        for target in targets(config):
            check_trusted(target, trust)
    check_node(config, where)
    try:
        return instantiate(dict(config), _convert_="all", **arguments)
    except InstantiationException as error:
        raise (error.__cause__ if isinstance(error.__cause__, ZooError) else error) from None


def check_trusted(target: str, trust: Sequence[str]) -> None:
    """Raise a ``ZooError`` unless the target is defined in a trusted module; nothing else is even imported."""
    module, _, name = target.rpartition(".")
    if within(module, trust):
        return
    if within(module, TRUSTED) or module == "torch.nn":
        try:
            found = getattr(import_module(module), name, None)
        except ImportError:
            found = None
        home = getattr(found, "__module__", "")
        if within(home, TRUSTED) and (inspect.isclass(found) or within(home, TRUSTED_FUNCTIONS)):
            return
    raise ZooError(
        f"the file asks for {target}, which is no model of this zoo, so it is not run; if you know the module, say so: "
        f"--trust {module} (in Python: trust=[...])"
    )


def within(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def targets(node: Any) -> list[str]:
    """All ``_target_`` values anywhere in a config."""
    if isinstance(node, Mapping):
        own = [str(node["_target_"])] if "_target_" in node else []
        return own + [t for value in node.values() for t in targets(value)]
    return [t for value in node for t in targets(value)] if isinstance(node, (list, tuple)) else []


def load(source: str | Path, trust: Sequence[str] = ()) -> nn.Module:
    """A trained model in eval mode, from a shipped name or a checkpoint of your own.

    Args:
        source: a name of ``list_weights()`` or the path of a checkpoint that training wrote.
        trust: modules of your own that the checkpoint's config may name.

    Returns:
        The module, with ``preprocess`` (``model(model.preprocess(model.preprocess.read("digit.png")))`` are logits),
        ``classes`` and ``card``.

    Raises:
        ZooError: unknown name, damaged or foreign file, a file that would run code (it is not run).
    """
    card = read_card(source)
    model: Any = build(card.model, "model", trust)
    copy_weights(model, read_weights(source, card))
    model.preprocess = build(card.preprocess, "preprocess", trust)
    model.classes = card.classes
    model.card = card
    return model.eval()


def read_card(source: str | Path) -> Card:
    """The card of a shipped name, or what a checkpoint says of itself."""
    cards = shipped()
    if str(source) in cards:
        return Card.read(cards[str(source)])
    if not Path(source).exists():
        if Path(source).suffix or "/" in str(source):
            raise ZooError(f"{source}: no such file")
        raise suggest(str(source), list(cards), "shipped weight")
    content = read_checkpoint(Path(source))
    if not isinstance(content, dict) or "card" not in content:
        raise ZooError(
            f"{source} is no checkpoint of this zoo: it does not say which model it is of; to use it as bare "
            f"weights: init.weights={source}"
        )
    return Card(**content["card"])


def read_weights(source: str | Path, card: Card | None = None) -> dict[str, Tensor]:
    """The tensors of a shipped name, a checkpoint, a safetensors file or a saved state_dict, by parameter name.

    Raises:
        ZooError: as ``load``; a shipped file that is not what its card says.
    """
    from safetensors.torch import load as load_safetensors

    cards = shipped()
    if str(source) in cards:
        card = card or Card.read(cards[str(source)])
        path = cards[str(source)].with_suffix(".safetensors")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != card.sha256:
            raise ZooError(f"{path} is not the file its card describes (sha256 differs): install the zoo again")
        return load_safetensors(content)
    path = Path(source)
    if not path.exists():
        raise suggest(str(source), list(cards), "shipped weight or file")
    if path.suffix == ".safetensors":
        try:
            return load_safetensors(path.read_bytes())
        except Exception as error:  # safetensors has an exception class of its own in a private module
            raise ZooError(f"{path} is not a safetensors file: {error}") from None
    content = read_checkpoint(path)
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    prefix = "model." if "card" in content else ""
    weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix) and torch.is_tensor(v)}
    if not weights:
        raise ZooError(f"{path} holds no weights")
    return weights


def read_checkpoint(path: Path) -> Any:
    """The content of a file of torch.save, read without running anything that is in it."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "GLOBAL" in str(error):
            raise ZooError(
                f"{path} holds Python objects that would run code when loaded, so it was not loaded"
            ) from None
        raise ZooError(f"{path} is not a checkpoint, or it is damaged") from None
    except IsADirectoryError:
        raise ZooError(f"{path} is a folder; give a checkpoint file in it") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError):
        raise ZooError(f"{path} is not a checkpoint, or it is damaged") from None
