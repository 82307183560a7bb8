"""Classification: one label for an input."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import Optimizer
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassF1Score

from zoo.errors import ZooError
from zoo.tasks.task import Task


class Classify(Task):
    """Minimise a loss of logits, and measure accuracy.

    Args:
        model: any module from inputs to logits (B, num_classes).
        num_classes: number of classes.
        loss: of (logits, labels); validation and test use the same loss without its label smoothing.
        optimizer, scheduler, l1, l2, max_norm, lr_scale, monitor, mode: see ``Task``.
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        optimizer: Callable[[Iterable], Optimizer] | None = None,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        loss: nn.Module | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        max_norm: float | None = None,
        lr_scale: Mapping[str, float] | None = None,
        monitor: str = "val/accuracy",
        mode: Literal["max", "min"] = "max",
    ):
        super().__init__(model, optimizer, scheduler, l1, l2, max_norm, lr_scale, monitor, mode)
        self.num_classes = num_classes
        self.loss = loss or nn.CrossEntropyLoss()
        kwargs: dict[str, Any] = {"num_classes": num_classes, "validate_args": False}
        self.train_accuracy = MulticlassAccuracy(average="micro", **kwargs)
        self.train_accuracy.persistent(True)  # so that a resumed epoch reports what an unbroken one would
        metrics = MetricCollection({"accuracy": MulticlassAccuracy(average="micro", **kwargs)})
        self.val_metrics = metrics.clone(prefix="val/")
        if num_classes > 20:  # of ten classes, five are nearly always right
            metrics.add_metrics({"top5": MulticlassAccuracy(average="micro", top_k=5, **kwargs)})
        metrics.add_metrics(
            {
                "f1": MulticlassF1Score(average="macro", **kwargs),
                "calibration_error": MulticlassCalibrationError(**kwargs),
            }
        )
        self.test_metrics = metrics.clone(prefix="test/")

    def check_output(self, logits: Tensor, labels: Tensor) -> None:
        """Raise a ``ZooError`` where the model does not give a number a class; called once, before training."""
        if tuple(logits.shape) != (len(labels), self.num_classes):
            raise ZooError(
                f"the model gives {tuple(logits.shape[1:])} numbers an example, but the data have {self.num_classes} "
                f"classes; set model.num_classes={self.num_classes}, which is the default"
            )
        try:
            self.loss(logits, labels)
        except (RuntimeError, ValueError) as error:
            raise ZooError(f"task.loss: {str(error).splitlines()[0]}") from None

    # --- what a batch becomes -------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        if batch_idx == 0:  # not at an epoch's end: a run may be resumed between the two
            self.train_accuracy.reset()
        x, y = batch
        logits = self.model(x)
        loss = self.loss(logits, y) + self.penalty()
        self.train_accuracy.update(logits.detach(), y)
        if self.trainer._logger_connector.should_update_logs:  # each self.log costs as much as a small layer
            self.log("train/loss", loss.detach(), prog_bar=True)
            self.log("train/accuracy", self.train_accuracy.compute(), prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        logits = self.model(x)
        self.val_metrics.update(logits, y)
        self.log("val/loss", self.eval_loss(logits, y), batch_size=len(y), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.val_metrics.compute(), prog_bar=True)
        self.val_metrics.reset()

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> tuple[Tensor, Tensor]:
        """Returns (logits, labels), for callbacks that look at single predictions."""
        x, y = batch
        logits = self.model(x)
        self.test_metrics.update(logits, y)
        self.log("test/loss", self.eval_loss(logits, y), batch_size=len(y), sync_dist=True)
        return logits, y

    def on_test_epoch_end(self) -> None:
        self.log_dict(self.test_metrics.compute())
        self.test_metrics.reset()

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.model(batch[0] if isinstance(batch, (tuple, list)) else batch).softmax(-1)

    def eval_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The training loss without label smoothing or penalties, so that runs compare."""
        if isinstance(self.loss, nn.CrossEntropyLoss):
            return nn.functional.cross_entropy(logits, labels, weight=self.loss.weight)
        return self.loss(logits, labels)
