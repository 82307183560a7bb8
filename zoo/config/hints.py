"""Checking plain values against type hints and ranges, and describing both in messages."""

import collections.abc
import inspect
import types
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from zoo.arguments import Inherited, Range
from zoo.config.plain import shortened
from zoo.errors import ZooError

# Words that a scheduler's argument may have instead of a number; see zoo.tasks.task.
PLACEHOLDERS = ("total_steps", "total_epochs")


def arguments_of(target: Any) -> tuple[dict[str, Any], bool]:
    """The names and type hints of the arguments of a class or function, and whether it accepts any other name.

    If a constructor's ``**arguments`` are ``Inherited``, the arguments of the base class are included.
    """
    found: dict[str, Any] = {}
    functions = [target]
    if inspect.isclass(target):
        functions = [vars(kind)["__init__"] for kind in target.__mro__ if "__init__" in vars(kind)]
    for function in functions:
        parameters = inspect.signature(function).parameters
        try:  # some of torch's hints use names that are imported for type checkers only
            hints = get_type_hints(function, localns={**vars(collections.abc)}, include_extras=True)
        except Exception:  # hints of another library may fail to evaluate; then only names are checked
            hints = {}
        rest = [name for name, p in parameters.items() if p.kind is p.VAR_KEYWORD]
        for name, p in parameters.items():
            if name != "self" and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
                found.setdefault(name, hints.get(name, Any))
        if not rest or hints.get(rest[0]) != Inherited:
            return found, bool(rest)
    return found, False


def check_type(value: Any, hint: Any, where: str) -> None:
    """Raise a ``ZooError`` if a plain value does not fit a type hint.

    A hint of a class of objects accepts any mapping or list, but no plain value; ``Path`` accepts a text.
    """
    if value in PLACEHOLDERS and where.startswith("scheduler."):
        return
    if not fits(value, hint):
        raise ZooError(f"{where}={shown(value)} is not valid: {describe(hint)} is expected, not {kind(value)}")


def check_ranges(value: Any, hint: Any, where: str, whole: Any = None) -> None:
    """Raise a ``ZooError`` if a number is outside of the range in its type hint, also within lists and mappings.

    Args:
        whole: the list that contains the value, for the message.
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


def range_in(hint: Any) -> Range | None:
    """The range in a type hint, or in one of its alternatives; None if it has none."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return next((said for said in args[1:] if isinstance(said, Range)), None)
    if origin in (Union, types.UnionType):
        return next(filter(None, map(range_in, args)), None)
    return None


def check_range(value: Any, valid: Range, where: str, whole: Any = None) -> None:
    """Raise a ``ZooError`` if a number, or a number in a list, is outside of a range; NaN is outside of every range."""
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
        return hint in (None, type(None), Any) or not (inspect.isclass(hint) or origin is not None)
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


LONG = 200  # most characters of a value in a message


def shown(value: Any) -> str:
    """A value as on the command line; a long one is cut off."""
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
    """A type hint in words, for a user who types the value on a command line."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return describe(args[0])
    if origin in (Union, types.UnionType):  # leave out classes whose values cannot be typed in
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
