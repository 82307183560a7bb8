"""Classification: one label for an input."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
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
        loss: of (logits, labels); validation and test use the same loss without its label smoothing. A model with
            auxiliary heads has ``forward_with_aux``, to (logits, auxiliary logits, …), which training uses.
        aux_weight: of each auxiliary head's loss (Szegedy et al. 2014, section 5).
        tta: test-time augmentation: the logits tested are means over an image and its "mirror", or those of it and of
            its shifts by a pixel up-left and down-right, "mirror_shift" (Jordan 2024, section 3.5). The test then gives
            the accuracy without it as well, as accuracy_plain.
        optimizer, scheduler, l1, l2, max_norm, lr_scale, monitor, mode, clip_norm: see ``Task``.
    """

    calls = ("forward", "forward_with_aux")
    shows = ("kernels", "confusion", "mistakes", "projector")

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        optimizer: Callable[[Iterable], Optimizer] | None = None,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        loss: nn.Module | None = None,
        aux_weight: float = 0.3,
        tta: Literal["none", "mirror", "mirror_shift"] = "none",
        l1: float = 0.0,
        l2: float = 0.0,
        max_norm: float | None = None,
        lr_scale: Mapping[str, float] | None = None,
        monitor: str = "val/accuracy",
        mode: Literal["max", "min"] = "max",
        clip_norm: float | None = None,
    ):
        super().__init__(model, optimizer, scheduler, l1, l2, max_norm, lr_scale, monitor, mode, clip_norm)
        self.num_classes = num_classes
        self.loss = loss or nn.CrossEntropyLoss()
        if tta not in ("none", "mirror", "mirror_shift"):
            raise ZooError(f"task.tta={tta} is not valid: give none, mirror or mirror_shift")
        self.aux_weight, self.tta = aux_weight, tta
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
        self.plain_accuracy = MulticlassAccuracy(average="micro", **kwargs)

    def check_output(self, logits: Tensor, x: Tensor, labels: Tensor) -> None:
        """Raise a ``ZooError`` where the model does not give a number a class; called once, before training."""
        if labels.ndim > 1:
            raise ZooError("these data have a label at every step of a sequence: set task=language")
        if logits.ndim != 2:
            raise ZooError(
                f"the model gives {tuple(logits.shape[1:])} numbers an example and no class; it is for another task: "
                "reconstruct, variational, density, em, adversarial, or for sequences language"
            )
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
        x, y = batch
        return self.supervised(self.all_logits(x), y, batch_idx)

    def supervised(self, outputs: list[Tensor], y: Tensor, batch_idx: int) -> Tensor:
        """The loss of what ``all_logits`` gave, with the penalties; it and the accuracy are logged."""
        if batch_idx == 0:  # not at an epoch's end: a run may be resumed between the two
            self.train_accuracy.reset()
        logits, *aux = outputs
        loss = self.loss(logits, y) + self.penalty()
        for other in aux:
            loss = loss + self.aux_weight * self.loss(other, y)
        self.train_accuracy.update(logits.detach(), y if y.ndim == 1 else y.argmax(1))
        if self.trainer._logger_connector.should_update_logs:  # each self.log costs as much as a small layer
            self.log("train/loss", loss.detach(), prog_bar=True)
            self.log("train/accuracy", self.train_accuracy.compute(), prog_bar=True)
        return loss

    def all_logits(self, x: Tensor) -> list[Tensor]:
        """The model's logits and those of its auxiliary heads, in full precision: each (B, num_classes)."""
        with_aux = getattr(self.model, "forward_with_aux", None)
        return [logits.float() for logits in (with_aux(x) if with_aux else [self.model(x)])]

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        logits = self.model(x).float()
        self.val_metrics.update(logits, y)
        self.log("val/loss", self.eval_loss(logits, y), batch_size=len(y), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.val_metrics.compute(), prog_bar=True)
        self.val_metrics.reset()

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> tuple[Tensor, Tensor]:
        """Returns (logits, labels), for callbacks that look at single predictions."""
        x, y = batch
        with torch.autocast(x.device.type, enabled=False):  # whatever it was trained in, weights are used in 32 bits
            logits = self.model(x)
            if self.tta != "none":
                self.plain_accuracy.update(logits, y)
                others = [(weight, self.model(view)) for weight, view in views(x, self.tta)]
                logits = logits * (1 - sum(weight for weight, _ in others)) + sum(weight * z for weight, z in others)
        self.test_metrics.update(logits, y)
        self.log("test/loss", self.eval_loss(logits, y), batch_size=len(y), sync_dist=True)
        return logits, y

    def on_test_epoch_end(self) -> None:
        self.log_dict(self.test_metrics.compute())
        self.test_metrics.reset()
        if self.tta != "none":
            self.log("test/accuracy_plain", self.plain_accuracy)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.model(batch[0] if isinstance(batch, (tuple, list)) else batch).softmax(-1)

    def eval_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The training loss without label smoothing or penalties, so that runs compare."""
        if isinstance(self.loss, nn.CrossEntropyLoss):
            return nn.functional.cross_entropy(logits, labels, weight=self.loss.weight)
        return self.loss(logits, labels)


def views(x: Tensor, tta: str) -> Iterator[tuple[float, Tensor]]:
    """What an image's prediction is averaged over besides itself: weights, and images (B, C, H, W) -> same."""
    if tta == "mirror":
        yield 0.5, x.flip(3)
        return
    yield 0.25, x.flip(3)
    h, w = x.shape[2:]
    padded = F.pad(x, (1, 1, 1, 1), mode="reflect")  # (B, C, H+2, W+2)
    for i in (0, 2):
        shifted = padded[:, :, i : i + h, i : i + w]
        yield 0.125, shifted
        yield 0.125, shifted.flip(3)
