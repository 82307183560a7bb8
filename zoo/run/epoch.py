"""Lightning's training epoch with a shorter way through the usual batch; Lightning's private names are used here.

For every batch Lightning looks up what callbacks, task, data, strategy, precision and profiler may have overridden.
With one device and one optimizer the answers are the same for all batches of an epoch, so they are found once. Hooks
are called in the same order and the same progress is counted, so checkpoints and curves are those of Lightning's own
epoch. ``benchmarks/train_step.py`` measures what this saves.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities import move_data_to_device
from torch import Tensor

# Lightning calls these for every training batch, of each callback and then of the task
HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
# Where the task or the data override one of these, every batch takes Lightning's way
OF_DATA = ("on_before_batch_transfer", "transfer_batch_to_device")
OF_TASK = (*OF_DATA, "on_train_batch_start", "backward", "optimizer_zero_grad")


def overrides(owner: Any, base: type, name: str) -> bool:
    """Whether an object has a method of its own in place of its base class's."""
    return name in vars(owner) or getattr(type(owner), name) is not getattr(base, name)


def shorten(trainer: Trainer, task: LightningModule) -> None:
    """Let a trainer that has not begun take the shorter way, and drop the hooks of batches that nobody overrides.

    Lightning skips a hook that is not callable, so an unused one becomes None.
    """
    for owner, base in [*((c, Callback) for c in trainer.callbacks), (task, LightningModule)]:  # type: ignore[attr-defined]
        for name in HOOKS:
            if not overrides(owner, base, name):
                setattr(owner, name, None)
    loop = trainer.fit_loop.epoch_loop
    trainer.fit_loop.epoch_loop = Epoch(trainer, min_steps=loop.min_steps, max_steps=loop.max_steps)


class Epoch(_TrainingEpochLoop):
    """One epoch of training."""

    usual = False  # whether the batches of this epoch take the shorter way
    hooks: dict[str, list[Callable]]

    def on_run_start(self, data_fetcher: Any) -> None:
        super().on_run_start(data_fetcher)
        trainer, task = self.trainer, self.trainer.lightning_module
        precision, data = trainer.precision_plugin, trainer.datamodule  # type: ignore[attr-defined]
        self.usual = (
            type(trainer.strategy) is SingleDeviceStrategy
            and (type(precision) is Precision or (type(precision) is MixedPrecision and precision.scaler is None))
            and type(trainer.profiler) is PassThroughProfiler  # type: ignore[attr-defined]
            and trainer.accumulate_grad_batches == 1  # type: ignore[attr-defined]
            and task.automatic_optimization
            and data is not None
            and not any(callable(getattr(task, n)) and overrides(task, LightningModule, n) for n in OF_TASK)
            and not any(overrides(data, LightningDataModule, name) for name in OF_DATA)
        )
        self.hooks = {
            name: [
                *(partial(call, trainer, task) for c in trainer.callbacks if callable(call := getattr(c, name))),  # type: ignore[attr-defined]
                *([getattr(task, name)] if callable(getattr(task, name)) else []),
            ]
            for name in HOOKS
        }

    def call(self, name: str, *arguments: Any) -> None:
        """Call a hook of all callbacks that have it, and of the task."""
        if self.hooks[name]:
            self.log_as(name)
            for hook in self.hooks[name]:
                hook(*arguments)

    def log_as(self, name: str | None) -> None:
        """Tell the task in which hook it is, as Lightning does; a module's own ``setattr`` takes ten times as long."""
        self.trainer.lightning_module.__dict__["_current_fx_name"] = name

    def advance(self, data_fetcher: Any) -> None:
        """Train on the next batch."""
        if self.restarting or not self.usual:
            return super().advance(data_fetcher)
        trainer, logs, progress = self.trainer, self.trainer._logger_connector, self.batch_progress
        self.val_loop.restarting = False
        batch, _, _ = next(data_fetcher)
        batch_idx = self.batch_idx + 1
        progress.is_last_batch = data_fetcher.done
        batch = trainer.precision_plugin.convert_input(batch)
        if trainer.strategy.root_device.type != "cpu":
            batch = move_data_to_device(batch, trainer.strategy.root_device)
        batch = trainer.datamodule.on_after_batch_transfer(batch, 0)  # type: ignore[attr-defined]
        progress.increment_ready()
        logs.on_batch_start(batch)
        self.call("on_train_batch_start", batch, batch_idx)
        progress.increment_started()
        loss = self.update(batch, batch_idx)
        progress.increment_processed()
        self.update_lr_schedulers("step", update_plateau_schedulers=False)
        if self._num_ready_batches_reached():
            self.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        self.call("on_train_batch_end", {} if loss is None else {"loss": loss}, batch, batch_idx)
        self.log_as(None)
        logs.on_batch_end()
        progress.increment_completed()
        logs.update_train_step_metrics()

    def update(self, batch: Any, batch_idx: int) -> Tensor | None:
        """Update the weights; return the loss, detached."""
        task, precision = self.trainer.lightning_module, self.trainer.precision_plugin
        optimizer, wrapped = self.trainer.optimizers[0], self.trainer.strategy._lightning_optimizers[0]
        counts = self.automatic_optimization.optim_progress.optimizer
        loss: Tensor | None = None

        @torch.enable_grad()
        def closure() -> Tensor | None:
            nonlocal loss
            self.log_as("training_step")
            with precision.train_step_context():
                loss = task.training_step(batch, batch_idx)  # type: ignore[assignment]
            counts.zero_grad.increment_ready()
            self.call("on_before_zero_grad", optimizer)
            counts.zero_grad.increment_started()
            optimizer.zero_grad()
            counts.zero_grad.increment_completed()
            if loss is not None:
                self.call("on_before_backward", loss)
                loss.backward()
                loss = loss.detach()
                self.call("on_after_backward")
            return loss

        counts.step.increment_ready()
        task.optimizer_step(self.trainer.current_epoch, batch_idx, wrapped, closure)
        counts.step.increment_completed()
        return loss
