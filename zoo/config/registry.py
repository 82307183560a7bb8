"""Models by name: first the zoo's ``configs/model/``, then the user's own ./configs/model. Imports no torch."""

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from zoo.config.files import MB, read_file
from zoo.config.own import allow
from zoo.config.plain import check_bounded
from zoo.errors import ZooError
from zoo.paths import CONFIGS

CONFIG_BYTES = 1 * MB  # largest size of a model's config


def model_folders() -> list[Path]:
    """The folders with models' configs, in the order of precedence: a user's config cannot replace one of the zoo."""
    return [CONFIGS / "model", Path("configs/model")]


def list_models(pattern: str = "*") -> list[str]:
    """The names of models that ``create`` accepts; with a pattern, such as "resnet*", those that match it."""
    names = {path.stem for folder in model_folders() for path in folder.glob("*.yaml")}
    return sorted(name for name in names if fnmatchcase(name, pattern))


def model_config(name: str, within: Sequence[str] = ()) -> dict[str, Any]:
    """The config of the model of that name, with its ``defaults`` merged in; interpolations are not resolved.

    Args:
        within: the configs whose ``defaults`` led to this one, to detect cycles.

    Raises:
        ZooError: no model has that name, or the file is not a model's config.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError, safe_load

    path = next((p for folder in model_folders() if (p := folder / f"{name}.yaml").is_file()), None)
    if path is None:
        raise suggest(name, list_models(), "model")
    try:
        text = read_file(path, CONFIG_BYTES).decode()
        check_bounded(safe_load(text), str(path))  # before OmegaConf makes a node of each value
        content = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except (YAMLError, OmegaConfBaseException, OSError, TypeError, ValueError, RecursionError) as error:
        raise ZooError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    own = {str(k): v for k, v in content.items()} if isinstance(content, dict) else {}
    before: dict[str, Any] = {}
    for other in own.pop("defaults", None) or []:
        if not isinstance(other, str) or other in (name, *within):
            raise ZooError(f"{path}: defaults: {other} is not understood here; valid: names of models, _self_")
        before |= model_config(other, (name, *within)) if other != "_self_" else {}
    config = before | own
    if not isinstance(config.get("_target_"), str):
        raise ZooError(f"{path} is no model's config: _target_ must name its class, as in my_module.MyModel")
    allow([config["_target_"]])
    return config


def suggest(name: str, valid: Sequence[str], what: str, otherwise: str = "") -> ZooError:
    """The error for an unknown name, with the most similar valid one; ``otherwise`` describes other valid inputs."""
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    return ZooError(f"no {what} is named {name!r}; {hint}valid: {', '.join([*valid, *filter(None, [otherwise])])}")
