"""Checking a composed config before anything slow starts, and saying in one line what is wrong with it.

Hydra knows which keys exist; the types of their values come from the signatures of the classes that ``_target_`` names.
So there is no separate schema to maintain, and a user's own class is checked like the zoo's.
"""

import difflib
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, Literal

from omegaconf import OmegaConf

from zoo.arguments import Range, Seed
from zoo.config.foreign import check_name
from zoo.config.hints import arguments_of, check_range, check_ranges, check_type, shown
from zoo.errors import ZooError
from zoo.paths import CONFIGS

# Valid ranges of arguments of torch and Lightning, which their signatures do not state. The zoo's classes, and classes
# of users, state them in their signatures (zoo/arguments.py).
FOREIGN: dict[str, Range] = {
    **dict.fromkeys(("lr", "max_lr", "eta_min", "weight_decay", "momentum", "gradient_clip_val", "patience"), Range(0)),
    **dict.fromkeys(("log_every_n_steps", "refresh_rate"), Range(0)),
    **dict.fromkeys(("pct_start", "label_smoothing"), Range(0, 1)),
    **dict.fromkeys(("accumulate_grad_batches", "step_size"), Range(1)),
    **dict.fromkeys(("max_epochs", "max_steps"), Range(-1)),
}


def check_node(node: Any, where: str) -> None:
    """Check the arguments of every ``_target_`` at or below a config node against its signature: names, types, ranges.

    Raises:
        ZooError: an argument is not valid; the message names the key as on the command line, its value and what is
            valid.
    """
    if isinstance(node, Mapping):
        if "_target_" in node:
            check_call(node, where)
        for key, value in node.items():
            check_node(value, f"{where}.{key}" if where else str(key))


def check_call(node: Mapping[str, Any], where: str) -> None:
    target = locate(str(node["_target_"]), where)
    hints, open_ended = arguments_of(target)
    names = list(hints)
    for key, value in node.items():
        if str(key).startswith("_"):
            continue
        if key not in names and not open_ended:
            raise unknown(f"{where}.{key}", str(key), names, f"{target.__name__} has no such argument", where)
        hint = hints.get(str(key), Any)
        check_type(value, hint, f"{where}.{key}")
        check_ranges(value, hint, f"{where}.{key}")
        if target.__module__.startswith(("torch.", "lightning.")) and key in FOREIGN:
            check_range(value, FOREIGN[str(key)], f"{where}.{key}")


def locate(path: str, where: str) -> Any:
    """Import the object that a dotted path names, which may also be a method of a class (``Class.method``)."""
    parts = path.split(".")
    for i in range(len(parts) - 1, 0, -1):
        try:
            found: Any = import_module(".".join(parts[:i]))
        except ModuleNotFoundError as error:
            if error.name and not path.startswith(error.name):
                raise ZooError(f"{where}._target_={path}: it needs the module {error.name}; install it") from None
            continue
        try:
            for part in parts[i:]:
                found = getattr(found, part)
        except AttributeError:
            break
        return found
    raise ZooError(f"{where}._target_={path}: there is no such class or function")


def unknown(key: str, name: str, valid: Iterable[str], reason: str, prefix: str = "") -> ZooError:
    """The error for a key that does not exist: it suggests the most similar valid key and lists all of them."""
    valid = sorted(v for v in valid if not v.startswith("_"))
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.6)
    dotted = f"{prefix}." if prefix else ""
    hint = f"did you mean {dotted}{near[0]}? " if near else ""
    return ZooError(f"{key}: {reason}; {hint}" + (f"valid: {', '.join(valid)}" if valid else f"to add it: +{key}=…"))


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """The keys whose values differ, and the keys that only one of the two mappings has."""
    return [key for key in {**a, **b} if key not in a or key not in b or a[key] != b[key]]


def choices(group: str) -> list[str]:
    """The zoo's own choices for GROUP=NAME."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


GROUPS = ("data", "model", "task", "optimizer", "scheduler", "trainer", "callbacks", "logger")
NAMED = ("callbacks", "logger")  # several choices can be combined, each under its own name


INIT = ("source", "weights", "skip", "rename", "freeze", "whole_table")


def check_run_name(name: str) -> None:
    """Raise a ``ZooError`` for a name that cannot be the name of a folder under logs/."""
    if not name:
        raise ZooError("name= is not valid: a run needs a name, for its folder under logs/")
    check_name(name, "name")


def check_config(cfg: Mapping[str, Any]) -> None:
    """Check a whole resolved training config (``configs/train.yaml``)."""
    keys = [*map(str, OmegaConf.load(CONFIGS / "train.yaml")), *GROUPS, "init"]  # type: ignore[arg-type]
    for key in cfg:
        if key not in keys:
            raise unknown(key, key, set(keys) - {"defaults", "hydra", "experiment", "debug"}, "no such key")
    for group in GROUPS:
        given = cfg.get(group)
        empty = not given and group in ("scheduler", "logger")
        if not empty and not (isinstance(given, Mapping) and (group in NAMED or "_target_" in given)):
            raise ZooError(f"{group}={shown(given)} is not valid: it takes a choice: {', '.join(choices(group))}")
    named = [(f"{group}.{name}", node) for group in NAMED for name, node in (cfg[group] or {}).items()]
    for key, node in named:
        if node is not None and not (isinstance(node, Mapping) and "_target_" in node):
            below = (
                "; settings stand below a logger's name: logger.tensorboard.KEY" if key.startswith("logger.") else ""
            )
            raise ZooError(f"{key}={shown(node)} is not valid: to switch it off, {key}=null{below}")
    check_type(cfg["seed"], int, "seed")
    check_ranges(cfg["seed"], Seed, "seed")
    for switch in ("compile", "test", "channels_last"):
        check_type(cfg[switch], bool, switch)
    check_type(cfg["select"], Literal["best", "last"], "select")
    check_type(cfg["name"], str, "name")
    check_run_name(cfg["name"])
    for key in cfg["init"]:
        if key not in INIT:
            raise unknown(f"init.{key}", key, INIT, "no such key", "init")
    check_type(cfg["init"]["weights"], str | None, "init.weights")
    for key in ("skip", "freeze"):
        value = cfg["init"][key]
        if isinstance(value, str):
            raise ZooError(f"init.{key}={value} is not valid: give a list, 'init.{key}=[{value}]'")
        check_type(value, list[str], f"init.{key}")
    rename = cfg["init"].get("rename")  # missing in configs of older runs
    if rename is not None and not (isinstance(rename, Mapping) and all(isinstance(v, str) for v in rename.values())):
        raise ZooError(f"init.rename={shown(rename)} is not valid: give pairs, 'init.rename={{their.layer:ours}}'")
    for group in GROUPS:
        check_node(cfg.get(group), group)
