"""Stopping a run: on the user's request, to be resumed exactly; and when the loss becomes NaN or infinite."""

import os
import signal
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from torch import Tensor, nn

from zoo.data.loader import Loader
from zoo.errors import ZooError
from zoo.run import saving
from zoo.run.checkpoint import checkpoint_path, config_of, rescued, whole_last
from zoo.run.commands import resume_command
from zoo.run.guard import Interrupted
from zoo.run.parallel import own_states, set_own_state


class StopAndResume(Checkpoint):
    """Ctrl-C (or SIGTERM) finishes the batch, writes ``last.ckpt`` and stops; a second Ctrl-C stops at once.

    Every checkpoint holds the random number generators' states of every process, so that a resumed run draws the same
    numbers as an uninterrupted one. The class is a ``Checkpoint`` so that Lightning calls it after all callbacks that
    may change what is saved; in a config it stands after the callbacks that write "best" and "last", so that their
    files are written before it looks.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.previous: dict[int, Any] = {}
        self.random: list[dict[str, Any]] = []  # one state per process
        self.speaks = True
        self.config: Mapping[str, Any] = {}  # the run's config
        self.folder = Path()

    def note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise Interrupted(f"stopped at once; {self.kept()}")
        self.signal = number
        if self.speaks:
            print("\nstopping after this batch (again to stop at once) …", flush=True)

    def kept(self) -> str:
        """Part of a message: how to resume from the last checkpoint that was written."""
        path = self.folder / "checkpoints" / "last.ckpt"
        if not path.is_file():
            return "no checkpoint had been written"
        return f"to go on from the last checkpoint: {resume_command(shown(path), self.config)}"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.folder = Path(trainer.default_root_dir)
        if trainer.world_size > 1:  # each process draws its own dropout and augmentation
            torch.manual_seed(torch.initial_seed() + trainer.global_rank)
        self.speaks, self.config = trainer.is_global_zero, config_of(trainer)
        if threading.current_thread() is threading.main_thread():  # replaces Lightning's for SIGTERM
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self.note)
        set_own_state(pl_module, trainer, self.random)
        self.random = []
        if isinstance(trainer.train_dataloader, Loader):  # else the run stops between epochs only
            trainer.train_dataloader.before_batch.append(partial(self.stop_between_batches, trainer))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        asked = self.signal is not None
        if trainer.world_size > 1:
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        if asked:
            self.stop(trainer)

    def stop_between_batches(self, trainer: Trainer) -> None:
        """Stop if that was asked for, unless gradients of several batches are being accumulated."""
        done = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        if done % trainer.accumulate_grad_batches:  # type: ignore[attr-defined]
            return
        asked = self.signal is not None
        if trainer.world_size > 1:  # all must stop at the same update; to communicate at each would be slow
            every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
            asked = not trainer.global_step % every and trainer.strategy.reduce_boolean_decision(asked, all=False)
        if asked:
            self.stop(trainer)

    def stop(self, trainer: Trainer) -> None:
        """Write the checkpoints that are due and ``last.ckpt``, and raise ``Interrupted``."""
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, saving.Checkpoint):
                callback.write_due(trainer)
        path = whole_last(trainer)
        if path is None:
            folders = (c.dirpath for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.dirpath)
            path = Path(next(folders, trainer.default_root_dir)) / "last.ckpt"
            trainer.save_checkpoint(path)
            path = rescued(trainer, path)
        go_on = resume_command(shown(Path(path)), config_of(trainer))
        raise Interrupted(f"stopped after update {trainer.global_step}; to go on: {go_on}")

    def restore_handlers(self) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.restore_handlers()  # before Lightning restores its own, whose handler would keep the trainer alive

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.restore_handlers()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["random"] = own_states(pl_module, trainer)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        states = checkpoint.get("random", [])
        self.random = [states] if isinstance(states, dict) else states  # older files: one process


def shown(path: Path) -> str:
    """A path for a command: relative to the current folder if it lies below it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


class StopOnNonFinite(Callback):
    """Stops before the update when the loss is NaN or infinite, and says at which step and in which layer this began.

    On a CPU the loss is checked at every step; on other devices, where reading it means waiting for the device, at
    every ``log_every_n_steps``-th step. The last checkpoint is kept, and weights that are not finite are never written
    to one.
    """

    def __init__(self) -> None:
        self.batch: Any = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.batch = batch

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        if loss.device.type != "cpu" and trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        if not loss.isfinite():
            where = first_nonfinite(pl_module.model, self.batch[0])  # type: ignore[arg-type]
            self.stop(trainer, f"the loss is {loss.item()} at step {trainer.global_step}: {where}")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        for name, p in pl_module.model.named_parameters():  # type: ignore[union-attr]
            if not p.isfinite().all():
                self.stop(trainer, f"the weights of {name} are not finite after step {trainer.global_step - 1}")

    def stop(self, trainer: Trainer, reason: str) -> None:
        kept = checkpoint_path(trainer, "last")
        kept = f"the last good checkpoint is {kept}" if kept else "no checkpoint had been written"
        raise ZooError(f"{reason}; {kept}. Try a lower optimizer.lr, or trainer.gradient_clip_val=1")


def first_nonfinite(model: nn.Module, x: Tensor) -> str:
    """Say where in a forward pass the first NaN or infinite value appears."""
    for name, p in model.named_parameters():
        if not p.isfinite().all():
            return f"the weights of {name} are not finite"
    if not x.isfinite().all():
        return "the input is not finite"
    found: list[str] = []

    def look(name: str, output: Any) -> None:
        if torch.is_tensor(output) and not output.isfinite().all():
            found.append(name)

    hooks = [m.register_forward_hook(lambda _m, _i, out, n=n: look(n, out)) for n, m in model.named_modules() if n]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return f"the output of {found[0]} is not finite" if found else "every layer is finite, so it is in the loss"
