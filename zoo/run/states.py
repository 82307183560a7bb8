"""What a resumed run takes from the states of callbacks in a checkpoint: numbers, but no paths.

Lightning's ModelCheckpoint deletes the files that its state names, wherever they lie. Therefore only the file name of a
stored path is used, and it is looked for in the run's own folder of checkpoints.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from zoo.config.foreign import CONTROL, DEEPEST, METRIC, check_name
from zoo.config.overrides import plain
from zoo.errors import ZooError

SCORES = ("best_model_score", "current_score", "kth_value")
PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")


def safe_states(stored: Any, callbacks: Sequence[Callback]) -> dict[str, Any]:
    """The stored states of a run's callbacks, by their keys; states of callbacks that it does not have are left out.

    Raises:
        ZooError: a state holds something that is neither a number, a tensor nor a plain word.
    """
    if not isinstance(stored, Mapping):
        raise ZooError("the checkpoint's states of callbacks are not what a training of this zoo writes")
    found: dict[str, Any] = {}
    for callback in callbacks:
        key = callback.state_key
        if key not in stored:
            continue
        if isinstance(callback, ModelCheckpoint):
            found[key] = recomputed(stored[key], callback)
        else:
            found[key] = without_words(stored[key]) if isinstance(callback, EarlyStopping) else stored[key]
            check_plain(found[key], key)
    return found


def without_words(state: Any) -> Any:
    """An EarlyStopping's state without its message, which Lightning would log unchecked."""
    return {**state, "stopping_reason_message": None} if isinstance(state, Mapping) else state


def recomputed(state: Any, callback: ModelCheckpoint) -> dict[str, Any]:
    """A ModelCheckpoint's state in which all paths lie in the folder that the callback writes to now."""
    if not (isinstance(state, Mapping) and isinstance(state.get("best_k_models", {}), Mapping)):
        raise ZooError("the checkpoint's state of ModelCheckpoint is not what Lightning writes")
    folder = Path(callback.dirpath) if callback.dirpath else None
    more = {key: value for key, value in state.items() if key not in (*SCORES, *PATHS, "best_k_models", "dirpath")}
    check_plain({**more, "monitor": None}, "ModelCheckpoint")  # the monitor's name may contain a slash
    found: dict[str, Any] = {**more, "monitor": callback.monitor, "dirpath": callback.dirpath}
    found |= {key: score(state.get(key)) for key in SCORES}
    found |= {key: inside(folder, state.get(key, "")) for key in PATHS}
    models = {inside(folder, path): score(value) for path, value in state.get("best_k_models", {}).items()}
    found["best_k_models"] = {path: value for path, value in models.items() if path}
    if not all(Path(path).is_file() for path in found["best_k_models"]):  # resumed in another folder
        found |= dict.fromkeys(SCORES) | dict.fromkeys(PATHS, "") | {"best_k_models": {}}
    if found["kth_value"] is None:
        found["kth_value"] = callback.kth_value
    return found


def inside(folder: Path | None, stored: Any) -> str:
    """The path in the run's folder for a stored path's file name; empty if no file is named, or without a folder."""
    if not isinstance(stored, str):
        raise ZooError(f"the checkpoint's state of ModelCheckpoint names {plain(stored)}, which is no file")
    name = re.split(r"[/\\]", stored)[-1]
    if not stored or folder is None:
        return ""
    check_name(name, "the checkpoint's state of ModelCheckpoint")
    if not name.endswith(ModelCheckpoint.FILE_EXTENSION):
        raise ZooError(f"the checkpoint's state of ModelCheckpoint names {plain(stored)}, which is no checkpoint")
    return str(folder / name)


def score(value: Any) -> Any:
    """Return a score unchanged if it is a number, a tensor of one number or None, and raise a ``ZooError`` if not."""
    if value is None or isinstance(value, (int, float)) or (torch.is_tensor(value) and value.numel() == 1):
        return value
    raise ZooError(f"the checkpoint's state of ModelCheckpoint has {plain(value)} for a score")


def check_plain(node: Any, where: str, depth: int = 0) -> None:
    """Raise a ``ZooError`` if a state holds, at any depth, anything but numbers, tensors and plain words."""
    if isinstance(node, (Mapping, list, tuple)) and depth < DEEPEST:
        for part in [*node, *node.values()] if isinstance(node, Mapping) else node:
            check_plain(part, where, depth + 1)
    elif isinstance(node, str):
        if (re.search(r"[/\\]|\.\.", node) or CONTROL.search(node)) and not METRIC.fullmatch(node):
            raise ZooError(
                f"the checkpoint's state of {where} has a path, {plain(node)}, which is not taken from a file"
            )
    elif not (node is None or isinstance(node, (bool, int, float)) or torch.is_tensor(node)):
        raise ZooError(f"the checkpoint's state of {where} has {plain(node)}, which is no number")
