"""What a file may hold before anything walks through it: content of a bounded depth and number of values.

JSON, YAML and pickles can nest 100,000 levels deep, and the two latter can hold a list that contains itself, or one
that stands twice in each of forty levels: a few bytes that a recursion ends in an error for or never gets through.
Imports no torch.
"""

from collections.abc import Mapping
from typing import Any

from zoo.errors import ZooError

DEEPEST = 100  # levels; a checkpoint's loops have about ten
MOST = 2_000_000  # values; a vocabulary of words has some 100,000


def check_bounded(content: Any, where: str, most: int = MOST) -> None:
    """Raise a ``ZooError`` where plain containers in a file's content are nested too deep, or hold too much."""
    level, count = [content], 0
    for _ in range(DEEPEST):
        below: list[Any] = []
        for node in level:
            if isinstance(node, Mapping):
                below.extend(node.values())
            elif isinstance(node, (list, tuple, set, frozenset)):
                below.extend(node)
            if count + len(below) > most:
                raise ZooError(f"{where} holds more than {most:,} values, or itself; no file of the zoo does")
        if not below:
            return
        level, count = below, count + len(below)
    raise ZooError(f"{where} is nested more than {DEEPEST} levels deep; no file of the zoo is")


def check_plain(content: Any, where: str) -> None:
    """Raise a ``ZooError`` unless content is what JSON can hold: mappings from texts, lists, and plain values.

    Numbers have at most 64 bits, so that each can be shown and computed with.
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
    """A value for a message, of a long one the beginning."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"
