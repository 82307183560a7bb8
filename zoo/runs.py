"""Folders of runs, and the words for going on with one."""

import os
import shutil
import sys
from datetime import datetime
from pathlib import Path

from omegaconf import OmegaConf

from zoo.errors import ZooError


class Interrupted(Exception):
    """The user stopped the run; a checkpoint was written. The message says how to go on."""


def find_resume(resume: str | None) -> Path | None:
    """The checkpoint of ``resume=PATH`` (a file, or a run's folder) or ``resume=last``, the newest under logs/."""
    if not resume:
        return None
    if resume == "last":
        found = sorted(Path("logs").glob("**/checkpoints/last.ckpt"), key=lambda p: p.stat().st_mtime)
        if not found:
            raise ZooError("resume=last: there is no checkpoint under logs/ yet; start a run first")
        return found[-1]
    path = Path(resume)
    for candidate in (path, path / "last.ckpt", path / "checkpoints" / "last.ckpt"):
        if candidate.is_file():
            return candidate
    raise ZooError(f"resume={resume}: there is no such checkpoint; give a file, a run's folder, or last")


def run_dir(resume: str | None, name: str) -> str:
    """Where a run writes: a folder of its own, or for a resumed run the one it had."""
    if checkpoint := find_resume(resume):
        folder = checkpoint.resolve().parent
        return str(folder.parent if folder.name == "checkpoints" else folder)
    # microseconds, so that two runs that start together do not share a folder
    return f"logs/{name}/{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"


def register_resolvers() -> None:
    """What ``configs/`` may interpolate: the run's folder, and where Hydra notes the config in it."""
    OmegaConf.register_new_resolver("zoo.run_dir", run_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver(
        "zoo.subdir",
        lambda resume: f".hydra-{datetime.now():%Y%m%d-%H%M%S}" if resume else ".hydra",
        use_cache=True,
        replace=True,
    )


def command(tool: str) -> str:
    """How to call "train", "zoo", "tensorboard" or "python" from here: with the venv's path if it is not active."""
    if tool == "train" and Path(sys.argv[0]).name == "train.py":
        return f"{command('python')} train.py"
    if tool == "train":
        return f"{command('zoo')} train"
    beside = Path(sys.executable).parent / tool
    found = shutil.which(tool)
    if found and Path(found).parent == beside.parent:
        return tool
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)
