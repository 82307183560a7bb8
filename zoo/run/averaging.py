"""Averages of the weights over training: exponential moving average and Lookahead."""

from collections.abc import Iterator
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor

from zoo.errors import ZooError
from zoo.tasks.task import Task


class EMA(EMAWeightAveraging):
    """Lightning's exponential moving average of the weights, with the same arguments.

    Until the first average is taken (``update_starting_at_step``), the trained weights are validated, saved and tested.
    """

    @property
    def averaged(self) -> bool:
        """Whether an average has been taken."""
        return self._average_model is not None and bool(self._average_model.n_averaged)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.averaged:
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.averaged:
            super().on_validation_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.averaged:
            super().on_train_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._average_model is None:
            return
        current = checkpoint["current_model_state"]
        averages = {name for name, _ in [*pl_module.named_parameters(), *pl_module.named_buffers()] if self.averaged}
        # entries that are not weights, such as a metric's sums, are not averaged
        checkpoint["state_dict"] = {**current, **{k: v for k, v in checkpoint["state_dict"].items() if k in averages}}


class Lookahead(Callback):
    """Slow weights that follow the trained weights, which are regularly reset to them (Zhang, Lucas, Hinton, Ba 2019).

    After every ``every``-th update, slow = d · slow + (1 − d) · weights, then weights = slow; the running averages of
    batch norm are treated in the same way. d grows as ``decay`` · (step / steps)³ (Jordan 2024, section 3.4): at first
    the weights move freely; near the end they are almost an average over many updates. The last update sets them to the
    slow weights, so the length of the run must be known; a run that is stopped early ends with its current weights.

    Args:
        every: number of updates between two resets.
        decay: d at the last update, in [0, 1).
    """

    def __init__(self, every: int = 5, decay: float = 0.95**5):
        self.every, self.decay = every, decay
        self.slow: list[Tensor] = []
        self.seen = 0  # number of the last update; with accumulated gradients an update takes several batches

    @staticmethod
    def fast(module: LightningModule) -> Iterator[Tensor]:
        """The tensors that are averaged: trainable parameters, and floating-point buffers, not counters."""
        yield from (p.data for p in module.model.parameters() if p.requires_grad)  # type: ignore[union-attr]
        yield from (b for b in module.model.buffers() if b.is_floating_point())  # type: ignore[union-attr]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.steps = trainer.estimated_stepping_batches  # which Lightning recomputes at every access
        if self.steps == float("inf"):
            raise ZooError("callbacks=lookahead needs the run's length: set trainer.max_epochs or trainer.max_steps")
        self.seen = trainer.global_step
        fast = list(self.fast(pl_module))
        if len(self.slow) != len(fast):
            self.slow = [tensor.clone() for tensor in fast]
        self.slow = [slow.to(tensor.device) for slow, tensor in zip(self.slow, fast, strict=True)]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        last = step == self.steps
        if step == self.seen or (step % self.every and not last):
            return
        self.seen = step
        fast = list(self.fast(pl_module))
        decay = self.decay * (step / self.steps) ** 3
        if step % self.every == 0:
            torch._foreach_lerp_(self.slow, fast, 1 - decay)
        torch._foreach_copy_(fast, self.slow)
        if isinstance(pl_module, Task):  # the average includes the initial weights, which may violate the constraint
            pl_module.constrain()

    def state_dict(self) -> dict[str, Any]:
        return {"slow": self.slow}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.slow = state_dict["slow"]
