"""Where configs, weights and data lie, in a clone and in an installed wheel. Imports no torch."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
CONFIGS = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"
WEIGHTS = PACKAGE / "weights"
EMBEDDED = PACKAGE / "embedded" if (PACKAGE / "embedded").is_dir() else PACKAGE.parent / "data"


def data_root() -> Path:
    """The folder of the data: $ZOO_DATA, a clone's own data/, or the user's cache."""
    if root := os.environ.get("ZOO_DATA"):
        return Path(root).expanduser()
    clone = PACKAGE.parent
    if (clone / "pyproject.toml").exists() and os.access(clone / "data", os.W_OK):
        return clone / "data"
    return cache_root()


def in_home(path: str | Path) -> str | Path:
    """The path with the user's home folder in place of a ``~`` at its beginning; others as they are."""
    return Path(path).expanduser() if str(path).startswith("~") else path


def cache_root() -> Path:
    """The zoo's folder in the user's cache: everything in it can be recreated."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "reference-zoo"
