"""Classification: one label for each input."""

from collections.abc import Iterator
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassF1Score

from zoo.arguments import Inherited
from zoo.contracts import WithAux
from zoo.errors import ZooError
from zoo.tasks.loop import logs_now
from zoo.tasks.task import Mean, Task


class Classify(Task):
    """Minimise a classification loss on the logits.

    Measures ``loss`` and ``accuracy``. The test also measures ``f1`` (the mean over the classes), ``calibration_error``
    and, with more than 20 classes, ``top5`` (how often the right class is among the five most probable).

    Args:
        model: any module that maps inputs to logits (B, num_classes).
        num_classes: number of classes.
        loss: a function of (logits, labels), by default the cross-entropy; validation and test use it without its label
            smoothing. If the model has auxiliary heads, training calls its ``forward_with_aux``, which returns (logits,
            auxiliary logits, …).
        aux_weight: the weight of each auxiliary head's loss (Szegedy et al. 2014, section 5).
        tta: test-time augmentation. "mirror" averages the logits of an image and its mirror image; "mirror_shift"
            also averages over the image shifted by one pixel up-left and down-right, and the mirror images of both
            shifts (Jordan 2024, section 3.5). The test then also reports ``accuracy_plain``, the accuracy without it.
        shared: see ``Task``.
    """

    monitor, mode = "val/accuracy", "max"

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        loss: nn.Module | None = None,
        aux_weight: float = 0.3,
        tta: Literal["none", "mirror", "mirror_shift"] = "none",
        **shared: Inherited,
    ):
        super().__init__(model, **shared)
        self.num_classes, self.with_aux = num_classes, isinstance(model, WithAux)
        self.calls = ("forward", "forward_with_aux") if self.with_aux else ("forward",)
        self.loss = loss or nn.CrossEntropyLoss()
        if tta not in ("none", "mirror", "mirror_shift"):
            raise ZooError(f"task.tta={tta} is not valid: give none, mirror or mirror_shift")
        self.aux_weight, self.tta = aux_weight, tta
        kwargs: dict[str, Any] = {"num_classes": num_classes, "validate_args": False}
        self.train_accuracy = MulticlassAccuracy(average="micro", **kwargs)
        self.train_accuracy.persistent(True)  # so that a resumed epoch reports the same as an uninterrupted one
        self.measures["loss"] = Mean()
        self.measures["accuracy"] = MulticlassAccuracy(average="micro", **kwargs)
        self.measures["calibration_error"] = MulticlassCalibrationError(**kwargs)
        self.measures["f1"] = MulticlassF1Score(average="macro", **kwargs)
        if num_classes > 20:  # with ten classes, the top 5 are nearly always right
            self.measures["top5"] = MulticlassAccuracy(average="micro", top_k=5, **kwargs)
        self.measures["accuracy_plain"] = MulticlassAccuracy(average="micro", **kwargs)

    def check_output(self, logits: Tensor, x: Tensor, labels: Tensor) -> None:
        """Raise a ``ZooError`` if the model does not give one logit per class; called once, before training."""
        if labels.ndim > 1:
            raise ZooError("these data have a label at every step of a sequence: set task=language")
        if logits.ndim != 2:
            raise ZooError(
                f"the model gives {tuple(logits.shape[1:])} numbers per example, not class logits; use another task: "
                "reconstruct, variational, density, em, adversarial, or language for sequences"
            )
        if tuple(logits.shape) != (len(labels), self.num_classes):
            raise ZooError(
                f"the model gives {tuple(logits.shape[1:])} numbers per example, but the data have {self.num_classes} "
                f"classes; set model.num_classes={self.num_classes}, which is the default"
            )
        try:
            self.loss(logits, labels)
        except (RuntimeError, ValueError) as error:
            raise ZooError(f"task.loss: {str(error).splitlines()[0]}") from None

    # --- from a batch to a loss and metrics -----------------------------------------------------------------------

    def training_loss(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return self.supervised(self.all_logits(x), y, batch_idx)

    def supervised(self, outputs: list[Tensor], y: Tensor, batch_idx: int) -> Tensor:
        """The loss of the outputs of ``all_logits``, (); also logs it and the accuracy so far in the epoch."""
        if batch_idx == 0:  # rather than at an epoch's end, as a run may be resumed between the two
            self.train_accuracy.reset()
        logits, *aux = outputs
        loss = self.loss(logits, y)
        for other in aux:
            loss = loss + self.aux_weight * self.loss(other, y)
        self.train_accuracy.update(logits.detach(), y if y.ndim == 1 else y.argmax(1))
        if logs_now(self.trainer):
            self.log_training(loss=loss, accuracy=self.train_accuracy.compute())
        return loss

    def all_logits(self, x: Tensor) -> list[Tensor]:
        """The logits of the model and of its auxiliary heads, in full precision: each (B, num_classes)."""
        outputs = self.model.forward_with_aux(x) if self.with_aux else [self.model(x)]  # type: ignore[operator]
        return [logits.float() for logits in outputs]

    def measure(self, batch: tuple[Tensor, Tensor], part: str) -> tuple[Tensor, Tensor]:
        """Update the metrics; return (logits, labels), with the averaged logits where ``tta`` is used."""
        x, y = batch
        logits, measured = self.model(x).float(), ["accuracy"]
        if part == "test":
            measured += ["top5", "f1", "calibration_error"]
            if self.tta != "none":
                self.measures["accuracy_plain"].update(logits, y)  # type: ignore[operator]
                others = [(weight, self.model(view)) for weight, view in views(x, self.tta)]
                logits = logits * (1 - sum(weight for weight, _ in others)) + sum(weight * z for weight, z in others)
        self.measures["loss"].update(self.eval_loss(logits, y), len(y))  # type: ignore[operator]
        for name in measured:
            if name in self.measures:
                self.measures[name].update(logits, y)  # type: ignore[operator]
        return logits, y

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.model(batch[0] if isinstance(batch, (tuple, list)) else batch).softmax(-1)

    def eval_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The training loss without label smoothing or penalties, so that runs can be compared."""
        if isinstance(self.loss, nn.CrossEntropyLoss):
            return nn.functional.cross_entropy(logits, labels, weight=self.loss.weight)
        return self.loss(logits, labels)


def views(x: Tensor, tta: str) -> Iterator[tuple[float, Tensor]]:
    """The transformed copies of x (B, C, H, W), each with its weight in the average; x has the weight left up to 1."""
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
