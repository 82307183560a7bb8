"""The progress bar: one line of at most 80 columns per epoch, with loss and accuracy."""

import time
from collections.abc import Mapping
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import (
    BatchesProcessedColumn,
    CustomBarColumn,
    RichProgressBarTheme,
)
from rich.progress import TextColumn, TimeRemainingColumn
from rich.table import Column

from zoo.tasks.loop import logs_now


class Progress(RichProgressBar):
    """Lightning's progress bar with short names of metrics, updated a few times a second instead of at every batch.

    Args:
        every: seconds between two updates of the metrics; reading them means waiting for the device.
    """

    def __init__(self, every: float = 0.5):
        theme = RichProgressBarTheme(metrics="", metrics_text_delimiter="  ")
        # refresh_rate only sets how long the end of an epoch waits for Rich's thread; ``every`` limits redrawing
        super().__init__(refresh_rate=50, leave=True, theme=theme)
        self.every, self.looked = every, 0.0
        self.total: Any = 0.0  # the sum of the losses of this epoch's batches so far, on the device
        self.batches, self.loss = 0, None  # their number, and their mean loss when values were last logged

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        return [
            TextColumn("{task.description}"),
            CustomBarColumn(bar_width=20, complete_style="cyan", finished_style="cyan", pulse_style="cyan"),
            BatchesProcessedColumn(style=""),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True, table_column=Column(no_wrap=True)),
        ]

    def _init_progress(self, trainer: Trainer) -> None:
        super()._init_progress(trainer)
        if self._metric_component is not None:  # if space is short, shrink the bar, not the metrics
            self._metric_component._table_column = Column(no_wrap=True)

    def _get_train_description(self, current_epoch: int) -> str:
        last = self.trainer.max_epochs
        return f"epoch {current_epoch + 1}/{last}" if last and last > 0 else f"epoch {current_epoch + 1}"

    @property
    def test_description(self) -> str:
        return "test"

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Training logs its accuracy so far in the epoch; the loss beside it is the mean over the same batches.
        if batch_idx == 0:
            self.total, self.batches, self.loss = 0.0, 0, None
        if isinstance(outputs, Mapping) and "loss" in outputs:
            self.total, self.batches = self.total + outputs["loss"], self.batches + 1
            if logs_now(trainer):
                self.loss = self.total / self.batches
        now = time.monotonic()
        if now - self.looked >= self.every or batch_idx + 1 == self.total_train_batches:
            self.looked = now
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """``train/loss`` is shown as loss, as its mean over the batches of this epoch so far; ``val/accuracy`` as val
        acc.
        """
        metrics = super().get_metrics(trainer, pl_module)
        if self.loss is not None and "train/loss" in metrics:
            metrics["train/loss"] = round(float(self.loss), 3)
        return {k.removeprefix("train/").replace("accuracy", "acc").replace("/", " "): v for k, v in metrics.items()}
