"""Files that are never half-written, checkpoints among them."""

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_warn

from zoo.errors import ZooError
from zoo.pretrained.reading import read_checkpoint
from zoo.run.resume import METRICS


def save_atomically(content: dict[str, Any], path: Path) -> None:
    """``torch.save``, whole or not at all."""
    write_atomically(partial(torch.save, content), path)


def write_atomically(content: bytes | Callable[[BinaryIO], None], path: Path) -> None:
    """Write beside the target and move into place: whoever looks sees the old file or the new, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.unlink(missing_ok=True)  # of a killed run; a link there is not followed
        with part.open("xb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def remove_parts(folder: Path) -> None:
    """Remove what ``write_atomically`` left in a run's folder when it was killed; the run must be alone in there."""
    for part in [*folder.glob(".*"), *folder.glob("checkpoints/.*")]:
        if re.fullmatch(rf"\.({re.escape(METRICS)}|.+\.ckpt)\.\d+", part.name):
            with suppress(OSError):
                part.unlink()


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoints, written atomically. On a full or read-only disk training goes on: checkpoints go to one
    folder among the system's temporary ones, with the others of the run, so that ``resume=`` that folder goes on.

    Attributes:
        rescued: where checkpoints went that could not be written to their place, by that place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rescued: dict[str, Path] = {}
        self.refuge: Path | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path = Path(path)
        try:
            save_atomically(checkpoint, path)
            self.rescued.pop(str(path), None)
        except (OSError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError
            try:
                refuge = self.make_refuge(path.parent) / path.name
                save_atomically(checkpoint, refuge)
            except (OSError, RuntimeError):
                raise ZooError(
                    f"no checkpoint could be written to {path} ({error}) nor to {tempfile.gettempdir()}; the last good "
                    f"one is kept; free some space and go on with resume={path.parent / 'last.ckpt'}"
                ) from None
            self.rescued[str(path)] = refuge
            rank_zero_warn(f"{path} could not be written ({error}); training goes on, the checkpoint is in {refuge}")

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """A checkpoint to go on from, as every other reader has it: on the CPU, and by today's names."""
        return read_checkpoint(Path(path))

    def make_refuge(self, folder: Path) -> Path:
        """The folder for what cannot be written to its place; at first the run's other checkpoints are copied there."""
        if self.refuge is None:
            self.refuge = Path(tempfile.mkdtemp(prefix="zoo-rescue-")) / folder.name
            self.refuge.mkdir()
            for other in folder.glob("[!.]*.ckpt"):
                with suppress(OSError):
                    shutil.copy(other, self.refuge)
        return self.refuge
