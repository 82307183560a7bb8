"""Checking a composed config before anything slow starts, and saying in one line what is wrong with it.

Hydra knows which keys exist; what types they take stands in the signatures of the classes that ``_target_`` names.
So there is no second schema to keep: a user's own class is checked like the zoo's.
"""

import collections.abc
import difflib
import inspect
import types
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from math import inf
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from omegaconf import OmegaConf

from zoo.arguments import Inherited, Range, Seed
from zoo.config.foreign import check_name
from zoo.config.plain import shortened
from zoo.errors import ZooError
from zoo.paths import CONFIGS

# What a scheduler's argument may say instead of a number; see zoo.tasks.task.
PLACEHOLDERS = ("total_steps", "total_epochs")

# The ranges of torch's and Lightning's arguments, whose signatures do not say them. Those of the zoo's classes, and of
# one's own, stand in their signatures (zoo/arguments.py).
FOREIGN: dict[str, Range] = {
    **dict.fromkeys(("lr", "max_lr", "eta_min", "weight_decay", "momentum", "gradient_clip_val", "patience"), Range(0)),
    **dict.fromkeys(("log_every_n_steps", "refresh_rate"), Range(0)),
    **dict.fromkeys(("pct_start", "label_smoothing"), Range(0, 1)),
    **dict.fromkeys(("accumulate_grad_batches", "step_size"), Range(1)),
    **dict.fromkeys(("max_epochs", "max_steps"), Range(-1)),
}


def check_node(node: Any, where: str) -> None:
    """Hold every ``_target_`` at or below a config node against its signature: argument names and types.

    Raises:
        ZooError: names the key as the command line spells it, what it got and what is valid.
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


def arguments_of(target: Any) -> tuple[dict[str, Any], bool]:
    """The names and type hints of the arguments of a class or function, and whether it takes any other.

    Where a constructor's ``**arguments`` are ``Inherited``, those of the base class are among them.
    """
    found: dict[str, Any] = {}
    functions = [vars(kind)["__init__"] for kind in target.__mro__ if "__init__" in vars(kind)]
    for function in functions if inspect.isclass(target) else [target]:
        parameters = inspect.signature(function).parameters
        try:  # torch imports the names of some of its hints for checkers alone
            hints = get_type_hints(function, localns={**vars(collections.abc)}, include_extras=True)
        except Exception:  # a foreign class may have hints that do not evaluate; then names alone are checked
            hints = {}
        rest = [name for name, p in parameters.items() if p.kind is p.VAR_KEYWORD]
        for name, p in parameters.items():
            if name != "self" and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
                found.setdefault(name, hints.get(name, Any))
        if not rest or hints.get(rest[0]) != Inherited:
            return found, bool(rest)
    return found, False


def locate(path: str, where: str) -> Any:
    """The object that a dotted path names; class methods (``Class.method``) included."""
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


def check_type(value: Any, hint: Any, where: str) -> None:
    """Raise where a plain value does not fit a type hint; hints that say nothing of plain values are let through."""
    if value in PLACEHOLDERS and where.startswith("scheduler."):
        return
    if not fits(value, hint):
        raise ZooError(f"{where}={shown(value)} is not valid: {describe(hint)} is expected, not {kind(value)}")


def check_ranges(value: Any, hint: Any, where: str, whole: Any = None) -> None:
    """Raise where a number is out of the range that a type hint says, anywhere in it.

    Args:
        whole: the list that the value is in, for the message.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        for said in args[1:]:
            if isinstance(said, Range):
                check_range(value, said, where, whole)
        check_ranges(value, args[0], where, whole)
    elif origin in (Union, types.UnionType):
        for arg in args:
            if fits(value, arg):
                check_ranges(value, arg, where, whole)
    elif isinstance(value, Mapping) and len(args) == 2:
        for key, item in value.items():
            check_ranges(item, args[1], f"{where}.{key}")
    elif isinstance(value, (list, tuple)) and args:
        for item in value:
            check_ranges(item, args[0], where, value)


def check_range(value: Any, valid: Range, where: str, whole: Any = None) -> None:
    """Raise where a number, or one in a list, is out of a range; a NaN is in none."""
    for number in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(number, (int, float)) and not valid.low <= number <= valid.high:
            words = f"{valid.low:.0f} to {valid.high:.0f}" if valid.high < inf else f"at least {valid.low:.0f}"
            given = shown(value if whole is None else whole)
            raise ZooError(f"{where}={given} is not valid: {words} is expected")


def fits(value: Any, hint: Any) -> bool:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return fits(value, args[0])
    if origin in (Union, types.UnionType):
        return any(fits(value, arg) for arg in args)
    if origin is Literal:
        return value in args
    if value is None:
        return hint in (None, type(None), Any) or not inspect.isclass(hint)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool):
        return isinstance(value, hint)
    container = origin or hint
    if inspect.isclass(container) and container is not Any:
        if issubclass(container, Mapping):
            return isinstance(value, Mapping)
        if issubclass(container, tuple) and args and Ellipsis not in args:
            listed = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == len(args)
            return listed and all(map(fits, value, args))
        if issubclass(container, Iterable) and container.__module__ in ("builtins", "collections.abc"):
            inner = args[0] if args else Any
            return isinstance(value, Sequence) and not isinstance(value, str) and all(fits(v, inner) for v in value)
        if origin is None and isinstance(value, (bool, int, float, str)):
            return isinstance(value, container) or (isinstance(value, str) and "Path" in container.__name__)
    return True


LONG = 200  # characters of a value in a message


def shown(value: Any) -> str:
    """A value as the command line spells it, of a long one the beginning."""
    if isinstance(value, (list, tuple)):
        text = f"[{','.join(map(shown, value[:LONG]))}]"
    else:
        text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= LONG else f"{text[:LONG]}…"


def kind(value: Any) -> str:
    if value is None or isinstance(value, (list, tuple, Mapping)):
        return shown(value)
    return f"{shortened(value)} ({type(value).__name__})"


def describe(hint: Any) -> str:
    """A type hint in words that fit a command line."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return describe(args[0])
    if origin in (Union, types.UnionType):  # what can be typed, before classes that cannot
        args = [get_args(arg)[0] if get_origin(arg) is Annotated else arg for arg in args]
        plain = [arg for arg in args if arg in (str, int, float, bool, type(None)) or get_origin(arg)]
        return " or ".join(dict.fromkeys(describe(arg) for arg in plain or args))
    if origin is Literal:
        return " or ".join(map(str, args))
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return "a mapping"
    if origin is tuple and args and Ellipsis not in args:
        return f"a list of {len(args)} values"
    if origin is not None and args:
        return f"a list: {describe(args[0])} each"
    return {type(None): "null", float: "a number", int: "a whole number", bool: "true or false", str: "text"}.get(
        hint, getattr(hint, "__name__", str(hint))
    )


def unknown(key: str, name: str, valid: Iterable[str], reason: str, prefix: str = "") -> ZooError:
    """The error for a key that does not exist: the nearest that does, then all."""
    valid = sorted(v for v in valid if not v.startswith("_"))
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.6)
    dotted = f"{prefix}." if prefix else ""
    hint = f"did you mean {dotted}{near[0]}? " if near else ""
    return ZooError(f"{key}: {reason}; {hint}" + (f"valid: {', '.join(valid)}" if valid else f"to add it: +{key}=…"))


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """The keys whose values differ, and those that one of both lacks."""
    return [key for key in {**a, **b} if key not in a or key not in b or a[key] != b[key]]


def choices(group: str) -> list[str]:
    """The names that GROUP=NAME takes, of the zoo's own."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


GROUPS = ("data", "model", "task", "optimizer", "scheduler", "trainer", "callbacks", "logger")


INIT = ("source", "weights", "skip", "rename", "freeze")


def check_run_name(name: str) -> None:
    """Raise a ``ZooError`` for a name that no folder under logs/ could have."""
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
        if not empty and not (isinstance(given, Mapping) and (group == "callbacks" or "_target_" in given)):
            raise ZooError(f"{group}={shown(given)} is not valid: it takes a choice: {', '.join(choices(group))}")
    for name, callback in cfg["callbacks"].items():
        if callback is not None and not (isinstance(callback, Mapping) and "_target_" in callback):
            raise ZooError(f"callbacks.{name}={shown(callback)} is not valid: to switch it off, callbacks.{name}=null")
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
    rename = cfg["init"].get("rename")  # runs of before it have none
    if rename is not None and not (isinstance(rename, Mapping) and all(isinstance(v, str) for v in rename.values())):
        raise ZooError(f"init.rename={shown(rename)} is not valid: give pairs, 'init.rename={{their.layer:ours}}'")
    for group in GROUPS:
        check_node(cfg.get(group), group)
