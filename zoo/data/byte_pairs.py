"""Byte-pair encoding with the ``tokenizers`` library: preparing its input, and checking the files that it wrote."""

import json
import re
from typing import Any

from zoo.errors import ZooError

LONG, CUT = re.compile(r"\S{1000}|\s{1000}"), "\n\0"  # CUT cannot occur within a line


def pieces(text: str) -> list[str]:
    """The lines of a text, with line ends; runs without spaces (as DNA) or of spaces are cut every 1,000 characters.

    The library treats such a run as one word, and its time for merging grows with the square of a word's length.
    """
    cut = (LONG.sub(lambda run: run[0] + CUT, line).split(CUT) for line in text.splitlines(keepends=True))
    return [piece for line in cut for piece in line if piece]


def byte_level(model: Any) -> Any:
    """The library's tokenizer over bytes, with the given model."""
    tokenizer = library().Tokenizer(model)
    tokenizer.pre_tokenizer = library().pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def vocabulary_and_merges(content: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The tokens with their numbers, and the merges, from the JSON of the ``tokenizers`` library.

    Raises:
        ZooError: it is not JSON of a byte-pair encoding of bytes, the tokens are not numbered from 0 without gaps, or a
            merge does not join two tokens into a third one.
    """
    damaged = ZooError("the tokenizer is damaged: its content is not a byte-pair encoding of bytes with its merges")
    try:
        model = json.loads(content)["model"]
        numbers: dict[str, int] = model["vocab"]
        pairs = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
        merges: list[tuple[str, str]] = [(left, right) for left, right in pairs]
        whole = sorted(numbers.values()) == list(range(len(numbers))) and set(signs()) <= set(numbers)
        whole = whole and {type(number) for number in numbers.values()} == {int}  # 1.0 and True equal 1
        known = set(signs()) >= {sign for name in numbers for sign in name}
        made = all(left in numbers and right in numbers and left + right in numbers for left, right in merges)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        raise damaged from None
    if not (whole and known and made):
        raise damaged
    return numbers, merges


def signs() -> list[str]:
    """The character that the library writes for each byte: itself if it is printable, otherwise one from U+0100 on."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = iter(range(256, 512))
    return [chr(byte) if byte in seen else chr(next(hidden)) for byte in range(256)]


def library() -> Any:
    """Import the ``tokenizers`` library, an optional dependency.

    Raises:
        ZooError: it is not installed.
    """
    try:
        import tokenizers
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ModuleNotFoundError:
        raise ZooError("level=bpe needs the library tokenizers: pip install 'reference-zoo[bpe]'") from None
    return tokenizers
