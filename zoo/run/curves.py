"""TensorBoard's event files: a resumed run continues their curves, and a failure to write them does not end a run."""

import hashlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread
from torch.utils.tensorboard import SummaryWriter

from zoo.errors import ZooError
from zoo.run.rows import Rows, numbered


class Curves(TensorBoardLogger):
    """Lightning's TensorBoardLogger, with the same arguments.

    If the disk is full or the folder is gone, the run warns once and goes on without writing curves.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            keep_threads_quiet()
            self._experiment = Writer(log_dir=self.log_dir, **self._kwargs)
        return self._experiment

    @property
    def log_dir(self) -> str:
        """As in Lightning, but ``$`` and ``~`` in a folder's name are not expanded."""
        version = self.version if isinstance(self.version, str) else f"version_{self.version}"
        return os.path.join(self.root_dir, version, self.sub_dir or "")

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:  # type: ignore[override]
        super().log_metrics(numbered(metrics), step)

    @rank_zero_only
    def flush(self) -> None:
        """Write to disk what has been logged so far."""
        if self._experiment is not None:
            self._experiment.flush()

    @rank_zero_only
    def save(self) -> None:
        """Same as ``flush``. Lightning would also write ``hparams.yaml``, but the settings are in ``.hydra``."""
        self.flush()


def open_loggers(config: Mapping[str, Any], run_dir: Path, step: int) -> list[Any]:
    """Create a run's loggers from their configs.

    Args:
        config: the config of each logger, by name.
        run_dir: the run's folder.
        step: the first step that the run logs. Points of existing curves from this step on are discarded: the run is
            resumed from an earlier checkpoint, or an earlier run in this folder was killed before its first checkpoint.
    """
    loggers = []
    for name, node in config.items():
        if node is None:
            continue
        make = instantiate(node, _convert_="all", _partial_=True)
        own: dict[str, Any] = {"purge_step": step} if make.func in (Curves, Rows) else {}
        if make.func is WandbLogger:  # the same id for the same folder, so that a resumed run goes on with its curves
            own["id"] = hashlib.sha256(os.fsencode(run_dir.resolve())).hexdigest()[:16]
        try:
            loggers.append(make(save_dir=str(run_dir), **own))
        except ModuleNotFoundError:
            extra = {WandbLogger: "wandb", MLFlowLogger: "mlflow"}.get(make.func)
            if extra is None:
                raise
            raise ZooError(f"logger={name}: it needs an extra: pip install 'reference-zoo[{extra}]'") from None
    return loggers


def close(loggers: Sequence[Any]) -> None:
    """End the runs of Weights & Biases, which otherwise would go on in the next run of a sweep."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and logger._experiment is not None:
            logger.experiment.finish()


class Writer(SummaryWriter):
    """Torch's SummaryWriter, for which a failure to write is no error; after a ``close`` it can open another file."""

    def _get_file_writer(self) -> Any:
        file_writer: Any = super()._get_file_writer()
        if not isinstance(file_writer.event_writer, Forgiving):
            file_writer.event_writer = Forgiving(file_writer.event_writer)
        return file_writer


class Forgiving:
    """An event writer that warns once when it fails, and from then on does nothing."""

    def __init__(self, writer: Any):
        self.writer, self.broken = writer, False

    def get_logdir(self) -> str:
        return self.writer.get_logdir()

    def add_event(self, event: Any) -> None:
        self.attempt(self.writer.add_event, event)

    def flush(self) -> None:
        self.attempt(self.writer.flush)

    def close(self) -> None:
        self.attempt(self.writer.close)

    def reopen(self) -> None:
        self.attempt(self.writer.reopen)

    def attempt(self, call: Callable, *arguments: Any) -> None:
        if self.broken:
            return
        try:
            call(*arguments)
        except Exception as error:  # TensorBoard's file system raises exceptions of its own too
            self.broken = True
            rank_zero_warn(f"TensorBoard's curves cannot be written any more ({error}); training goes on without them")


def keep_threads_quiet() -> None:
    """Keep the writer's thread from printing a traceback; its error is raised again when the next event is added."""
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = lambda error: (
            None if isinstance(error.thread, _AsyncWriterThread) else threading.__excepthook__(error)
        )
