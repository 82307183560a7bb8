"""Text for a terminal: control characters in names and texts from files are made visible instead of sent. Imports
neither torch nor rich.

A file's name, a card's title, a class name or an error message may contain control sequences that a terminal obeys:
``ESC ]0;…`` sets its title, others move the cursor over earlier output, and a text-direction override shows ``gpj.exe``
as ``exe.jpg``.
"""

import codecs
import io
import json
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

# Control characters of ASCII and Latin-1, line separators and text-direction overrides
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
# Single halves of surrogate pairs, with which Python represents bytes in a file's name that are not valid UTF-8
HALVES = re.compile("[\ud800-\udfff]")
NAMED = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def clean(text: str, keep: str = "", halves: bool = True) -> str:
    """Text with its control characters escaped as in a Python string, such as ``\\x1b`` for ESC.

    Args:
        keep: characters that are not escaped, such as line breaks.
        halves: escape bytes of a name that are not valid UTF-8 too; otherwise they are left for the output stream to
            encode (see ``accept_any_text``), so that a name sent to a pipe has the same bytes as on the disk.
    """
    text = CONTROLS.sub(lambda found: found[0] if found[0] in keep else written(found[0]), text)
    return HALVES.sub(lambda found: written(found[0]), text) if halves else text


def written(character: str) -> str:
    """The escape of a character in a Python string; for a surrogate that stands for a byte, the escape of the byte."""
    code = ord(character)
    code -= 0xDC00 if 0xDC80 <= code <= 0xDCFF else 0
    return NAMED.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def say(line: str) -> None:
    """Print one line on stderr."""
    print(clean(line), file=sys.stderr, flush=True)


def write(text: str, end: str = "") -> None:
    """Print a text unchanged on stdout; on a terminal, escape control characters other than line breaks and tabs."""
    print(clean(text, keep="\n\t") if sys.stdout.isatty() else text, end=end, flush=True)


def as_json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """JSON for people and programs: letters stay as they are, control characters and surrogates become ``\\uXXXX``.

    Bytes of a file's name that are not valid UTF-8 become U+DC80 to U+DCFF, which ``os.fsencode`` turns into bytes.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False)
    for characters in (CONTROLS, HALVES):  # outside of JSON strings, only line breaks match
        text = characters.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)
    return text


def accept_any_text() -> None:
    """Let this process print any name or text: bytes of names are printed as they are on the disk, and characters that
    the terminal's encoding lacks as ``\\uXXXX``. Control characters in warnings are escaped too.
    """
    codecs.register_error("zoo", encode_any)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a notebook or a test may have replaced it
        sys.stdout.reconfigure(errors="zoo")
    warnings.formatwarning = format_warning


def encode_any(error: UnicodeError) -> tuple[str | bytes, int]:
    """An encoding error handler: surrogateescape for bytes of names, backslashreplace for all other characters."""
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
