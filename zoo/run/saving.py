"""When checkpoints are written: between two batches or at an epoch's end, never in the middle of an update."""

import time
from functools import partial
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from zoo.data.loader import Loader
from zoo.errors import ZooError


class Checkpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, with the same arguments; from its files a run resumes exactly.

    A checkpoint that is due after a batch (``every_n_train_steps``, ``train_time_interval``) or after a validation
    within an epoch is written just before the next batch, when the curves of the last one are logged and the learning
    rate is updated. If training batches do not come from a ``Loader``, there is no such moment, and it is written at
    once, as by Lightning. Without a ``monitor`` the end of the run is always saved, whatever ``every_n_…`` says.
    """

    due = False  # whether a checkpoint is to be written as soon as possible
    between = False  # whether it is possible between two batches
    steps = 0  # number of updates after the last batch

    @property
    def state_key(self) -> str:
        """Made from the file's name alone, so that a resumed run may change how often the file is written."""
        return self._generate_state_key(filename=self.filename)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.due, self.steps = False, trainer.global_step
        loader = trainer.train_dataloader
        self.between = isinstance(loader, Loader)
        if isinstance(loader, Loader):
            loader.before_batch.append(partial(self.write_due, trainer))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        every, before = self._every_n_train_steps, self.steps
        self.steps = trainer.global_step
        # a batch may take several updates, such as one for each of two networks
        self.due |= every > 0 and self.steps // every > before // every
        if self._train_time_interval is not None:
            now = time.monotonic()
            waited = now - (self._last_time_checked or now) >= self._train_time_interval.total_seconds()
            if trainer.strategy.broadcast(waited):
                self.due, self._last_time_checked = True, now
        if not self.between:
            self.write_due(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        epochs = self._every_n_epochs
        if not self._should_save_on_train_epoch_end(trainer) and epochs and not (trainer.current_epoch + 1) % epochs:
            self.due = True
        if not self.between:
            self.write_due(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epochs = self._every_n_epochs
        if self._should_save_on_train_epoch_end(trainer) and epochs and not (trainer.current_epoch + 1) % epochs:
            self.due = True
        self.due |= self.monitor is None and ends(trainer)
        self.write_due(trainer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.current_score = state_dict.get("current_score")  # not restored by Lightning

    def write_due(self, trainer: Trainer) -> None:
        """Write the checkpoint if one is due and its metric has been measured."""
        if not self.due:  # first, as this is asked before every batch, and reading the metrics takes a millisecond
            return
        candidates = self._monitor_candidates(trainer)
        if self.monitor is not None and self.monitor not in candidates:
            return
        self.due = False
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_topk_checkpoint(trainer, candidates)
            if self.save_last:
                self._save_last_checkpoint(trainer, candidates)


def ends(trainer: Trainer) -> bool:
    """Whether the run ends with the epoch that has just ended; it may still go on to reach ``min_epochs``."""
    epochs: int = trainer.max_epochs or -1
    steps: int = trainer.max_steps  # type: ignore[attr-defined]
    return trainer.should_stop or trainer.current_epoch + 1 == epochs or 0 < steps <= trainer.global_step


def check_length(trainer: Trainer) -> None:
    """Raise a ``ZooError`` if a setting leaves nothing to train."""
    settings = {
        "max_epochs": trainer.max_epochs, "max_steps": trainer.max_steps,  # type: ignore[attr-defined]
        "limit_train_batches": trainer.limit_train_batches,
    }  # fmt: skip
    for name, value in settings.items():
        if value == 0:
            raise ZooError(f"trainer.{name}=0 leaves nothing to train: leave it out, or give 1 or more")
