"""The commands that messages suggest to the user."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def command(tool: str) -> str:
    """How to call "train", "zoo", "tensorboard" or "python" from here: with the venv's path if it is not active."""
    if tool == "train" and Path(sys.argv[0]).name == "train.py":
        return f"{command('python')} {shlex.quote(sys.argv[0])}"
    if tool == "train":
        return f"{command('zoo')} train"
    beside = Path(sys.executable).parent / tool
    found = shutil.which(tool)
    if found and Path(found).parent == beside.parent:
        return tool
    return shlex.quote(os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside))


def resume_command(checkpoint: str | Path, config: Mapping[str, Any]) -> str:
    """The command that resumes a run; it repeats settings that are not taken from a file, such as the data's folder.

    Args:
        checkpoint: a file, or "last".
        config: the run's resolved config.
    """
    from zoo.config.overrides import config_dirs, override
    from zoo.run.compose import own_configs
    from zoo.run.known import Known
    from zoo.run.said import config_folders
    from zoo.run.stored import said_again

    found = {str(folder) for folder in own_configs()}  # without --config-dir
    folders = [shlex.quote(f"--config-dir={folder}") for folder in config_dirs(sys.argv) if folder not in found]
    again = said_again(config, Known(config_folders()))
    return " ".join([command("train"), *folders, override("resume", str(checkpoint)), *again])
