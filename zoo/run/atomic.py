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
    """``torch.save`` to a file that is then complete, or unchanged if writing fails."""
    write_atomically(partial(torch.save, content), path)


def write_atomically(content: bytes | Callable[[BinaryIO], None], path: Path) -> None:
    """Write a temporary file beside the target, then rename it: a reader sees the old or the new file, complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.unlink(missing_ok=True)  # left by a killed run; a link is not followed
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
    """Remove temporary files that ``write_atomically`` left in a run's folder when a process was killed.

    No other process may be writing there.
    """
    for part in [*folder.glob(".*"), *folder.glob("checkpoints/.*")]:
        if re.fullmatch(rf"\.({re.escape(METRICS)}|.+\.ckpt)\.\d+", part.name):
            with suppress(OSError):
                part.unlink()


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoints, written atomically.

    On a full or read-only disk training goes on: all checkpoints of the run are collected in a temporary folder of the
    system, from which ``resume=`` can continue the run.

    Attributes:
        rescued: for each path that could not be written, the path of the checkpoint in the temporary folder.
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
        """Read a checkpoint to resume from, as everywhere in the zoo: on the CPU, with old names brought up to date."""
        return read_checkpoint(Path(path))

    def make_refuge(self, folder: Path) -> Path:
        """The temporary folder for checkpoints; the first call copies the run's other checkpoints there."""
        if self.refuge is None:
            self.refuge = Path(tempfile.mkdtemp(prefix="zoo-rescue-")) / folder.name
            self.refuge.mkdir()
            for other in folder.glob("[!.]*.ckpt"):
                with suppress(OSError):
                    shutil.copy(other, self.refuge)
        return self.refuge
