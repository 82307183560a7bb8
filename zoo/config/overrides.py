"""Values as a command line and as a message have them. Imports no torch."""

import re
import shlex
from collections.abc import Sequence
from itertools import pairwise
from typing import Any


def override(key: str, value: Any) -> str:
    """An override as Hydra reads it, as one word of a shell. It adds the key where the default config has none."""
    added = "" if key in ("resume", "data.root") else "++"
    return shlex.quote(f"{added}{key}={hydra_value(value)}")


def hydra_value(value: Any) -> str:
    """A plain value as Hydra's grammar has it: a text that is no plain word stands in quotes."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if not isinstance(value, str):
        return str(value)
    is_word = re.fullmatch(r"([A-Za-z_/]|\.{1,2}/)[A-Za-z0-9_/.:@%-]*", value) is not None
    if is_word and value.lower() not in ("null", "true", "false", "nan", "inf"):
        return value
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"'{escaped}'"


def plain(value: Any) -> str:
    """A value in a message: in one short line, whatever is in it."""
    text = ascii(value)[1:-1] if isinstance(value, str) else ascii(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def config_dirs(arguments: Sequence[str]) -> list[str]:
    """The folders of configs that a command line names."""
    return [
        b if a in ("--config-dir", "-cd") else a.partition("=")[2]
        for a, b in pairwise([*arguments, ""])
        if a in ("--config-dir", "-cd") or a.startswith("--config-dir=")
    ]
