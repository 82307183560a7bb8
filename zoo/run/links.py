"""The folder that a resumed run writes to, which a stranger may have packed: no link in it leads elsewhere.

A link that the user names is the user's word: a run's folder that is one, or a checkpoint. Imports no torch.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from zoo.config.foreign import nodes
from zoo.errors import ZooError
from zoo.run.resume import METRICS, find_resume
from zoo.run.stored import PLACES

CHECKPOINTS = "checkpoints"  # the folder of a run's checkpoints
# What the zoo and Lightning write directly into a run's folder; beside it there may be anything of the user's.
WRITTEN = re.compile(
    rf"{CHECKPOINTS}|\.lock|\.?{re.escape(METRICS)}.*|\.hydra.*|events\..*|example\..*|hparams\.yaml|hpc_ckpt.*|"
    r"lightning_logs|version_\d+",
    re.IGNORECASE,  # as some disks compare names
)


def resumed_folder(resume: str) -> Path:
    """The real folder of the run that ``resume=`` names, into which the run goes on writing.

    Raises:
        ZooError: there is no such checkpoint; or a link in the folder leads what is written out of it.
    """
    checkpoint = find_resume(resume)
    assert checkpoint is not None
    if Path(resume) == checkpoint and checkpoint.is_symlink():  # the user names the link itself
        checkpoint = checkpoint.resolve()
    folder = checkpoint.parent
    folder = folder.parent if folder.name == CHECKPOINTS else folder.resolve()
    folder = (folder.parent if folder.name == CHECKPOINTS else folder).resolve()
    if "${" in str(folder):  # Hydra would put a value, as of an environment variable, in its place
        raise ZooError(f"{folder} has ${{ in its name, so no run goes on there; give the folder another name")
    check_links(folder, [folder / CHECKPOINTS])
    return folder


def check_links(folder: Path, places: Iterable[Path] = ()) -> None:
    """Raise a ``ZooError`` where something that a run writes would be written, by a link, out of its folder.

    Args:
        folder: the run's own.
        places: folders below it into which the run writes too.
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
    """What is in a run's folder by a name that the run writes to, and what is in Hydra's folders there."""
    for path in listed(folder):
        if WRITTEN.fullmatch(path.name):
            yield path
            if path.name.startswith(".hydra"):
                yield from listed(path)


def listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def places_of(config: Mapping[str, Any], logger: Any) -> list[Path]:
    """Where the callbacks of a resolved config and its logger write; of no logger, False."""
    found = [node[key] for _, node in nodes(config["callbacks"]) for key in PLACES if isinstance(node.get(key), str)]
    return [Path(place) for place in (*found, logger and logger.log_dir) if place]
