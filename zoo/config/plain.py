"""Limits on the content of a file, checked before any other function walks through it: depth and number of values.

JSON, YAML and pickles can nest 100,000 levels deep, and the latter two can hold a list that contains itself, or forty
levels of which each contains the next one twice: with a few bytes, a recursion would fail or never end. Imports no
torch.
"""

from collections.abc import Mapping
from typing import Any

from zoo.errors import ZooError

DEEPEST = 100  # levels of nesting; a checkpoint's loops have about ten
MOST = 2_000_000  # number of values; a vocabulary of words has some 100,000


def check_bounded(content: Any, where: str, most: int = MOST) -> None:
    """Raise a ``ZooError`` if the containers in a file's content are nested too deeply or hold too many values."""
    level, count = [content], 0
    for _ in range(DEEPEST):
        below: list[Any] = []
        for node in level:
            if isinstance(node, Mapping):
                below.extend(node.values())
            elif isinstance(node, (list, tuple, set, frozenset)):
                below.extend(node)
            if count + len(below) > most:
                raise ZooError(f"{where} holds more than {most:,} values, or contains itself; no file of the zoo does")
        if not below:
            return
        level, count = below, count + len(below)
    raise ZooError(f"{where} is nested more than {DEEPEST} levels deep; no file of the zoo is")


def check_plain(content: Any, where: str) -> None:
    """Raise a ``ZooError`` unless content is what JSON can hold: mappings with strings as keys, lists, plain values.

    Whole numbers may have at most 64 bits, so that each can be printed and computed with.
    """
    check_bounded(content, where)
    level = [content]
    while level:
        below: list[Any] = []
        for node in level:
            if isinstance(node, Mapping):
                if odd := [key for key in node if not isinstance(key, str)]:
                    raise ZooError(f"{where} has a key of type {type(odd[0]).__name__}; only texts are keys")
                target = node.get("_target_", "")
                if not isinstance(target, str) or len(target) > 200:
                    raise ZooError(f"{where} has a _target_ that is no name of a class, {shortened(target)}")
                below.extend(node.values())
            elif isinstance(node, (list, tuple)):
                below.extend(node)
            elif node is not None and not isinstance(node, (str, bool, int, float)):
                raise ZooError(f"{where} holds a value of type {type(node).__name__}; only plain values are valid")
            elif isinstance(node, int) and node.bit_length() > 64:
                raise ZooError(f"{where} holds a whole number of {node.bit_length()} bits; 64 are valid")
        level = below


def shortened(value: Any, most: int = 80) -> str:
    """A value for a message; a long one is cut off."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"
