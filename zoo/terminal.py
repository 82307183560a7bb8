"""Text for a terminal: control characters in names and texts from files are shown, not sent. Imports neither torch nor
rich.

A file's name, a card's title, a class name or an error message may hold what a terminal obeys: ``ESC ]0;…`` sets its
title, others move the cursor over what was printed before, and a direction override shows ``gpj.exe`` as ``exe.jpg``.
"""

import codecs
import io
import json
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

# Controls of ASCII and Latin-1, separators of lines, overrides of direction; and halves of surrogate pairs, which stand
# in a name for the bytes that are no UTF-8
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
HALVES = re.compile("[\ud800-\udfff]")
NAMED = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def clean(text: str, keep: str = "", halves: bool = True) -> str:
    """Text with its control characters written as in a Python string, ``\\x1b`` for ESC.

    Args:
        keep: characters that are let through, such as line ends.
        halves: write the bytes of a name that are no UTF-8 in the same way; else they are left for the output to
            encode (see ``accept_any_text``), so that a name comes out of a pipe as it is on the disk.
    """
    text = CONTROLS.sub(lambda found: found[0] if found[0] in keep else written(found[0]), text)
    return HALVES.sub(lambda found: written(found[0]), text) if halves else text


def written(character: str) -> str:
    """A character as a Python string shows it; for one that stands for a byte, that byte."""
    code = ord(character)
    code -= 0xDC00 if 0xDC80 <= code <= 0xDCFF else 0
    return NAMED.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def say(line: str) -> None:
    """One line on stderr."""
    print(clean(line), file=sys.stderr, flush=True)


def write(text: str, end: str = "") -> None:
    """A text as it comes on stdout, with its lines and tabs; on a terminal other control characters are shown."""
    print(clean(text, keep="\n\t") if sys.stdout.isatty() else text, end=end, flush=True)


def as_json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """JSON for people and programs: letters as they are, what a terminal would obey or no encoding has as ``\\uXXXX``.

    The bytes of a file's name that are no UTF-8 are U+DC80 to U+DCFF, as ``os.fsencode`` of Python takes them.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False)
    for characters in (CONTROLS, HALVES):  # outside of strings there are none but line ends
        text = characters.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)
    return text


def accept_any_text() -> None:
    """Let this process print every name and text: bytes of names come out as they are on the disk, and what the
    terminal's encoding does not have as ``\\uXXXX``; warnings are cleaned as all else is.
    """
    codecs.register_error("zoo", encode_any)
    if isinstance(sys.stdout, io.TextIOWrapper):  # not where a notebook or a test has put another object
        sys.stdout.reconfigure(errors="zoo")
    warnings.formatwarning = format_warning


def encode_any(error: UnicodeError) -> tuple[str | bytes, int]:
    """The error handler: surrogateescape, and where that has no answer backslashreplace."""
    assert isinstance(error, UnicodeEncodeError)
    one = UnicodeEncodeError(error.encoding, error.object, error.start, error.start + 1, error.reason)
    try:
        return codecs.lookup_error("surrogateescape")(one)
    except UnicodeEncodeError:
        return codecs.lookup_error("backslashreplace")(one)


FORMAT_WARNING = warnings.formatwarning


def format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return clean(FORMAT_WARNING(message, category, filename, lineno, line), keep="\n")
