"""Values in the form that a command line and a message need. Imports no torch."""

import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any


def override(key: str, value: Any) -> str:
    """An override for Hydra, quoted as one word for a shell; it adds the key if the default config does not have it."""
    added = "" if key in ("resume", "data.root") else "++"
    return shlex.quote(f"{added}{key}={hydra_value(value)}")


def hydra_value(value: Any) -> str:
    """A plain value in Hydra's grammar, in which a text that is not a plain word needs quotes."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(hydra_value, value))}]"
    if isinstance(value, Mapping):
        # Hydra's keys have no quotes
        return f"{{{','.join(f'{key}:{hydra_value(item)}' for key, item in value.items())}}}"
    if isinstance(value, (int, float)):
        return str(value)
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} is no setting")
    is_word = re.fullmatch(r"([A-Za-z_/]|\.{1,2}/)[A-Za-z0-9_/.:@%-]*", value) is not None
    if is_word and value.lower() not in ("null", "true", "false", "nan", "inf"):
        return value
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"'{escaped}'"


def shell_word(text: str) -> str:
    """A text as one word for a shell, in the quotes that need no escapes if there are such."""
    if "'" in text and not re.search(r'["$`\\!]', text):
        return f'"{text}"'
    return shlex.quote(text)


def plain(value: Any) -> str:
    """A value for a message: one short line in ASCII, whatever it contains."""
    text = ascii(value)[1:-1] if isinstance(value, str) else ascii(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def config_dirs(arguments: Sequence[str]) -> list[str]:
    """The folders of configs that a command line names with ``--config-dir`` or ``-cd``."""
    return [
        b if a in ("--config-dir", "-cd") else a.partition("=")[2]
        for a, b in pairwise([*arguments, ""])
        if a in ("--config-dir", "-cd") or a.startswith("--config-dir=")
    ]
