"""Regression: real numbers for each input."""

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.arguments import Inherited
from zoo.errors import ZooError
from zoo.tasks.task import Mean, Task


class Regress(Task):
    """Minimise the mean squared error.

    Args:
        model: maps inputs to (B, num_classes).
        num_classes: how many numbers to predict; the size of a model's output has this name in every task.
        shared: see ``Task``.
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        **shared: Inherited,
    ):
        super().__init__(model, **shared)
        self.num_classes = num_classes
        self.measures["loss"] = Mean()

    def check_output(self, output: Tensor, x: Tensor, target: Tensor) -> None:
        """Raise a ``ZooError`` if the output's shape is not the targets' shape; called once, before training."""
        if not target.is_floating_point():
            raise ZooError(
                "these data have class labels, not numbers: set task=classify, or task=language for sequences"
            )
        if output.shape != target.shape:
            raise ZooError(
                f"the model gives {tuple(output.shape[1:])} numbers per example, but the targets have "
                f"{tuple(target.shape[1:])}; leave model.num_classes and model.read at their defaults"
            )

    def training_loss(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.mse_loss(self.model(x).float(), y)
        self.log_training(loss=loss)
        return loss

    def measure(self, batch: tuple[Tensor, Tensor], part: str) -> None:
        x, y = batch
        self.measures["loss"].update(F.mse_loss(self.model(x).float(), y), len(y))  # type: ignore[operator]
