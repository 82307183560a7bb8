"""``logger=csv``: a run's curves in ``metrics.csv``, which a resumed run continues as it continues TensorBoard's."""

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn


class Rows(CSVLogger):
    """Lightning's CSVLogger, with the same arguments and one more.

    If the disk is full or the folder is gone, the run warns once and goes on without writing rows.

    Args:
        purge_step: the first step that this run logs; rows of an existing file from this step on are removed.
    """

    def __init__(self, *arguments: Any, purge_step: int = 0, **named: Any):
        super().__init__(*arguments, **named)
        self.purge_step, self.broken = purge_step, False

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            self._experiment = Writer(self.log_dir, self.purge_step)
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        super().log_metrics(numbered(metrics), step)

    @rank_zero_only
    def save(self) -> None:
        """Write to disk what has been logged so far. Lightning would also write ``hparams.yaml``; the settings are in
        ``.hydra``.
        """
        if self.broken:
            return
        try:
            self.experiment.save()
        except OSError as error:
            self.broken = True
            rank_zero_warn(f"metrics.csv cannot be written any more ({error}); training goes on without it")


def numbered(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Logged values in which the first epoch is 1, as on the console; Lightning counts from 0.

    In the test Lightning gives the number of epochs that were trained, which is the number of the last one.
    """
    if "epoch" not in metrics or any(name.startswith("test/") for name in metrics):
        return dict(metrics)
    return {**metrics, "epoch": metrics["epoch"] + 1}


class Writer(ExperimentWriter):
    """Lightning's writer of ``metrics.csv``, which would delete an existing file; this one keeps its earlier rows.

    Args:
        log_dir: the folder of the file.
        purge_step: rows from this step on are removed.
    """

    def __init__(self, log_dir: str, purge_step: int):
        from lightning.fabric.utilities.cloud_io import get_filesystem

        self.hparams: dict[str, Any] = {}
        self.log_dir, self._fs = log_dir, get_filesystem(log_dir)
        self.metrics_file_path = os.path.join(log_dir, self.NAME_METRICS_FILE)
        os.makedirs(log_dir, exist_ok=True)
        path = Path(self.metrics_file_path)
        # what is kept counts as not written yet, so that the file has the columns and rows of an unbroken run
        self.metrics, self.metrics_keys = kept_rows(path, purge_step), []
        if path.exists():
            path.unlink()
            self.save()

    def save(self) -> None:
        super(ExperimentWriter, self).save()


def kept_rows(path: Path, before: int) -> list[dict[str, Any]]:
    """The rows of a CSV file of metrics before a step; a value that is missing in a row is left out of it."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = [{key: value for key, value in row.items() if key and value} for row in csv.DictReader(file)]
    # a row that a killed process wrote in part is no row of an earlier step that was saved with a checkpoint
    return [row for row in rows if row.get("step", "").isdigit() and int(row["step"]) < before]
