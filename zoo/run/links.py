"""Keeping a resumed run inside its folder: the folder may come from a stranger, and a link in it may lead elsewhere.

A link that the user names is followed: a run's folder or a checkpoint may itself be a link. Imports no torch.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.config.foreign import nodes
from zoo.errors import ZooError
from zoo.run.resume import METRICS, find_resume
from zoo.run.stored import PLACES

CHECKPOINTS = "checkpoints"  # the folder of a run's checkpoints
# Names that the zoo and Lightning write directly into a run's folder, in which the user may keep other files too.
WRITTEN = re.compile(
    rf"{CHECKPOINTS}|\.lock|\.?{re.escape(METRICS)}.*|failed\.txt|metrics\.csv|pictures|wandb|\.hydra.*|events\..*|example\..*|hparams\.yaml|hpc_ckpt.*|"
    r"lightning_logs|version_\d+",
    re.IGNORECASE,  # as some file systems compare names
)


def resumed_folder(resume: str) -> Path:
    """The real path of the run's folder that ``resume=`` names, into which the resumed run writes.

    Raises:
        ZooError: there is no such checkpoint, or a link in the folder would lead a file of the run out of it.
    """
    checkpoint = find_resume(resume)
    assert checkpoint is not None
    if Path(resume) == checkpoint and checkpoint.is_symlink():  # the user names the link itself
        checkpoint = checkpoint.resolve()
    folder = checkpoint.parent
    folder = folder.parent if folder.name == CHECKPOINTS else folder.resolve()
    folder = (folder.parent if folder.name == CHECKPOINTS else folder).resolve()
    if "${" in str(folder):  # Hydra would replace it, by an environment variable's value for example
        raise ZooError(f"{folder} has ${{ in its name, so no run can be resumed there; give the folder another name")
    check_links(folder, [folder / CHECKPOINTS])
    return folder


def check_links(folder: Path, places: Iterable[Path] = ()) -> None:
    """Raise a ``ZooError`` if a link would lead a file that a run writes out of the run's folder.

    Args:
        folder: the run's folder.
        places: further folders that the run writes to; those outside of its folder are ignored.
    """
    real = Path(os.path.realpath(folder))
    inside = [real / place.relative_to(folder) for place in places if place.is_relative_to(folder)]
    for path in (*written(real), *(path for place in inside if place != real for path in (place, *listed(place)))):
        target = Path(os.path.realpath(path))
        if not target.is_relative_to(real):
            raise ZooError(
                f"{path} leads to {target}, outside of the run's folder, where a resumed run writes nothing; remove "
                f"that link, or let the run go on in a folder of your own: hydra.run.dir=…"
            )


def written(folder: Path) -> Iterator[Path]:
    """The entries of a run's folder whose names a run writes to, and everything in Hydra's folders in it."""
    for path in listed(folder):
        if WRITTEN.fullmatch(path.name):
            yield path
            if path.name.startswith(".hydra"):
                yield from listed(path)


def listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def places_of(config: Mapping[str, Any], loggers: Sequence[Any]) -> list[Path]:
    """The folders that the callbacks in a resolved config and the loggers write to."""
    found = [node[key] for _, node in nodes(config["callbacks"]) for key in PLACES if isinstance(node.get(key), str)]
    return [Path(place) for place in (*found, *(logger.log_dir for logger in loggers)) if place]
