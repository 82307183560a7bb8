"""Cards without absolute paths, which would reveal the folders of the machine on which a model was trained."""

import os
import re
import shlex
from pathlib import Path
from typing import Any

ABSOLUTE = re.compile(r"(?<=[=\[,])/[^,\]]+")  # in an override: the value, or an item of a list


def portable(value: Any) -> Any:
    """Plain values with each absolute path replaced by ``shown``."""
    if isinstance(value, dict):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [portable(item) for item in value]
    return shown(value) if isinstance(value, str) and os.path.isabs(value) else value


def portable_command(command: str) -> str:
    """A command with each absolute path in its overrides replaced by ``shown``."""
    if not ABSOLUTE.search(command) and "='/" not in command:
        return command
    return shlex.join(ABSOLUTE.sub(lambda found: shown(found[0]), word) for word in shlex.split(command))


def shown(path: str) -> str:
    """An absolute path as one relative to the current folder, or below the home folder as ~/…, if it lies in neither as
    one that begins with ".."; so the command still works in the same folder.
    """
    cwd, home = Path.cwd(), Path.home()
    if not Path(path).is_relative_to(cwd) and Path(path).is_relative_to(home):
        return f"~/{Path(path).relative_to(home)}"
    return os.path.relpath(path, cwd)
