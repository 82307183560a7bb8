"""Regression: numbers for an input."""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import Optimizer

from zoo.errors import ZooError
from zoo.tasks.task import Task


class Regress(Task):
    """Minimise the mean squared error.

    Args:
        model: from inputs to (B, num_classes).
        num_classes: numbers to give, named as the size of every model's output is.
        optimizer, scheduler, l1, l2, max_norm, clip_norm, lr_scale, monitor, mode: see ``Task``.
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        optimizer: Callable[[Iterable], Optimizer] | None = None,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        max_norm: float | None = None,
        clip_norm: float | None = None,
        lr_scale: Mapping[str, float] | None = None,
        monitor: str = "val/loss",
        mode: Literal["max", "min"] = "min",
    ):
        super().__init__(model, optimizer, scheduler, l1, l2, max_norm, lr_scale, monitor, mode, clip_norm)
        self.num_classes = num_classes

    def check_output(self, output: Tensor, x: Tensor, target: Tensor) -> None:
        """Raise a ``ZooError`` where the model does not give what the data ask; called once, before training."""
        if not target.is_floating_point():
            raise ZooError("these data have labels, not numbers to give: set task=classify, or for sequences language")
        if output.shape != target.shape:
            raise ZooError(
                f"the model gives {tuple(output.shape[1:])} numbers an example, and the data ask "
                f"{tuple(target.shape[1:])}; leave model.num_classes and model.read at their defaults"
            )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.mse_loss(self.model(x).float(), y) + self.penalty()
        if self.trainer._logger_connector.should_update_logs:
            self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("val/loss", F.mse_loss(self.model(x).float(), y), batch_size=len(y), prog_bar=True, sync_dist=True)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        with torch.autocast(x.device.type, enabled=False):
            self.log("test/loss", F.mse_loss(self.model(x), y), batch_size=len(y), sync_dist=True)
