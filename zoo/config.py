"""Checking a composed config before anything slow starts, and saying in one line what is wrong with it.

Hydra knows which keys exist; what types they take stands in the signatures of the classes that ``_target_`` names.
So there is no second schema to keep: a user's own class is checked like the zoo's.
"""

import difflib
import inspect
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from zoo.errors import ZooError

# What a scheduler's argument may say instead of a number; see zoo.tasks.classify.
PLACEHOLDERS = ("total_steps", "total_epochs")


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
    function = target.__init__ if inspect.isclass(target) else target
    parameters = inspect.signature(function).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    names = [n for n, p in parameters.items() if n != "self" and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    try:
        hints = get_type_hints(function)
    except Exception:  # a foreign class may have hints that do not evaluate; then names alone are checked
        hints = {}
    for key, value in node.items():
        if str(key).startswith("_"):
            continue
        if key not in names and not open_ended:
            raise unknown(f"{where}.{key}", str(key), names, f"{target.__name__} has no such argument", where)
        check_type(value, hints.get(str(key), Any), f"{where}.{key}")


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
        raise ZooError(f"{where}={value} is not valid: {describe(hint)} is expected, not {kind(value)}")


def fits(value: Any, hint: Any) -> bool:
    origin, args = get_origin(hint), get_args(hint)
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
        if issubclass(container, Iterable) and container.__module__ in ("builtins", "collections.abc"):
            inner = args[0] if args else Any
            return isinstance(value, Sequence) and not isinstance(value, str) and all(fits(v, inner) for v in value)
        if origin is None and isinstance(value, (bool, int, float, str)):
            return isinstance(value, container) or (isinstance(value, str) and "Path" in container.__name__)
    return True


def kind(value: Any) -> str:
    return "null" if value is None else f"{value!r} ({type(value).__name__})"


def describe(hint: Any) -> str:
    """A type hint in words that fit a command line."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(describe(arg) for arg in args))
    if origin is Literal:
        return " or ".join(map(str, args))
    if origin is not None and args:
        return f"a list of {describe(args[0])}" if origin is not dict else "a mapping"
    return {type(None): "null", float: "a number", int: "a whole number", bool: "true or false", str: "text"}.get(
        hint, getattr(hint, "__name__", str(hint))
    )


def unknown(key: str, name: str, valid: Iterable[str], reason: str, prefix: str = "") -> ZooError:
    """The error for a key that does not exist: the nearest that does, then all."""
    valid = sorted(v for v in valid if not v.startswith("_"))
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.6)
    dotted = f"{prefix}." if prefix else ""
    hint = f"did you mean {dotted}{near[0]}? " if near else ""
    return ZooError(f"{key}: {reason}; {hint}valid: {', '.join(valid)}")


def check_config(cfg: Mapping[str, Any]) -> None:
    """Check a whole resolved training config (``configs/train.yaml``)."""
    check_type(cfg["seed"], int, "seed")
    for switch in ("compile", "test", "channels_last"):
        check_type(cfg[switch], bool, switch)
    check_type(cfg["select"], Literal["best", "last"], "select")
    check_type(cfg["name"], str, "name")
    check_type(cfg["init"]["weights"], str | None, "init.weights")
    for key in ("skip", "freeze"):
        value = cfg["init"][key]
        if isinstance(value, str):
            raise ZooError(f"init.{key}={value} is not valid: give a list, 'init.{key}=[{value}]'")
        check_type(value, list[str], f"init.{key}")
    for group in ("data", "model", "task", "optimizer", "scheduler", "trainer", "callbacks", "logger"):
        check_node(cfg[group], group)


def explain(error: Exception, overrides: Sequence[str], keys: Mapping[str, Any] | None) -> str:
    """Hydra's message for a bad command line, in one line, with what is valid.

    Args:
        overrides: the command line's.
        keys: the config as it composes without overrides of single values, for the names of its keys.
    """
    text = str(error)
    if found := re.search(r"Could not find '([^']+)'", text):
        group, _, option = found[1].rpartition("/")
        options = re.findall(r"^\s+(\S+)$", text.partition("Available options")[2], flags=re.M)
        return str(unknown(f"{group}={option}", option, options, f"no {group} is named {option}"))
    if found := re.search(r"Could not override '([^']+)'", text):
        path = found[1].replace("@", ".").split(".")
        node: Any = keys or {}
        for depth, part in enumerate(path):
            if not isinstance(node, Mapping) or part not in node:
                prefix = ".".join(path[:depth])
                where = f"nothing is named {part} in {prefix}" if prefix else "no such key"
                return str(unknown(found[1], part, map(str, node) if isinstance(node, Mapping) else [], where, prefix))
            node = node[part]
    if "Config group override must be" in text:
        bad = next((o for o in overrides if o.endswith("=null")), " ".join(overrides))
        return f"{bad}: a group takes the name of a choice; for nothing, {bad.partition('=')[0]}=none"
    if "LexerNoViableAlt" in text or "OverrideParse" in type(error).__name__ or "mismatched input" in text:
        bad = next((o for o in overrides if o in text), " ".join(overrides))
        return f"{bad}: not understood; write key=value, and quote lists: 'init.skip=[head]'"
    return " ".join(line.strip() for line in text.splitlines() if line.strip())
