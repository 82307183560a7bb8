"""Semi-supervised classification: few images have labels, and many have none (lecture 16.7)."""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning import Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn

from zoo.arguments import Inherited
from zoo.contracts import Denoising, Unlabelled, require
from zoo.errors import ZooError
from zoo.tasks.classify import Classify

METHODS = ("none", "pseudo_label", "pi", "mean_teacher", "ladder")


class SemiSupervised(Classify):
    """Minimise the classification loss of labelled images plus λ times a consistency loss on unlabelled images.

    Each unlabelled image comes in two views, that is, with two random augmentations. The methods are:

    - "pseudo_label": the class predicted for the first view, if its probability reaches ``threshold``, is the label of
      the second view (Lee 2013; with a stronger augmentation of the second view, Sohn et al. 2020, equation 4).
    - "pi": the mean squared difference of the class probabilities of the two views (Π-model, Laine & Aila 2017).
    - "mean_teacher": the mean squared difference between the probabilities of the second view and those that the model
      with averaged weights gives to the first (Tarvainen & Valpola 2017). It needs callbacks=ema, which averages the
      weights; the averaged weights are the ones that are tested.
    - "ladder": the error in denoising each layer of a noisy forward pass (Rasmus et al. 2015). It needs
      model=ladder, and uses the first view only.
    - "none": the supervised baseline, with the same labelled images, updates and augmentations. The baseline of a
      ladder network is method=ladder with weight=0, which keeps its noise.

    Args:
        model, num_classes, loss, tta: see ``Classify``.
        method: one of the five above.
        weight: the final value of λ.
        ramp_up: the share of the run over which λ rises, as weight · exp(−5 (1 − t)²) for t from 0 to 1.
        threshold: the least probability of a pseudo label; 0 uses every one.
        shared: see ``Task``.
    """

    takes_unlabelled = True

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        loss: nn.Module | None = None,
        method: Literal["none", "pseudo_label", "pi", "mean_teacher", "ladder"] = "pseudo_label",
        weight: float = 1.0,
        ramp_up: float = 0.2,
        threshold: float = 0.95,
        tta: Literal["none", "mirror", "mirror_shift"] = "none",
        **shared: Inherited,
    ):
        super().__init__(model, num_classes, loss, tta=tta, **shared)
        if method not in METHODS:
            raise ZooError(f"task.method={method} is unknown; valid: {', '.join(METHODS)}")
        if not (0 <= ramp_up <= 1 and 0 <= threshold < 1 and weight >= 0):
            raise ZooError(
                f"task.ramp_up={ramp_up}, task.threshold={threshold}, task.weight={weight}: give a "
                "ramp_up from 0 to 1, a threshold from 0 to less than 1, and a weight of 0 or more"
            )
        self.method, self.weight, self.ramp_up, self.threshold = method, weight, ramp_up, threshold
        if isinstance(model, Denoising):
            self.calls = (*self.calls, "corrupted_and_cost")
        self.length = 0.0  # the length of the run, in updates

    def check_output(self, output: Any, x: Tensor, target: Any) -> None:
        """Raise a ``ZooError`` if the model or the pixels do not suit the method; called once, before training."""
        super().check_output(output, x, target)
        if self.method == "ladder":
            require(self.model, Denoising, "task.method=ladder", "choose model=ladder")
        if self.method == "ladder" and (x.min() < 0 or x.max() > 1):
            raise ZooError(
                "task.method=ladder adds noise to pixels in [0, 1]: set data.mean=[0.0] and data.std=[1.0] (one "
                "value per channel)"
            )

    def check_run(self, trainer: Trainer, data: Any) -> None:
        super().check_run(trainer, data)
        if not isinstance(data, Unlabelled) or not data.unlabelled:
            raise ZooError("task=semi needs images without labels: set data.unlabelled, for example to 256")
        if self.method == "mean_teacher" and not averages(trainer):
            raise ZooError("task.method=mean_teacher needs averaged weights: set 'callbacks=[default,ema]'")
        if isinstance(self.model, Denoising) and trainer.world_size > 1:
            raise ZooError("model=ladder trains in one process: leave trainer.devices at 1")

    def on_train_start(self) -> None:
        super().on_train_start()
        self.length = float(self.totals()["total_steps"])

    def teacher(self) -> nn.Module:
        """The model with the averaged weights of callbacks=ema."""
        return averages(self.trainer)[0]._average_model.module.model  # type: ignore[union-attr]

    def lambda_now(self) -> float:
        """λ at the current update."""
        updates = self.ramp_up * self.length
        done = min(1.0, self.trainer.global_step / updates) if updates else 1.0
        return self.weight * math.exp(-5 * (1 - done) ** 2)

    def training_loss(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:  # type: ignore[override]
        x, y, u, v = batch
        if self.method == "ladder":
            model: Any = self.model
            logits, cost = model.corrupted_and_cost(x, u)
            return self.weighted(self.supervised([logits.float()], y, batch_idx), cost)
        if self.method == "none":
            return super().training_loss((x, y), batch_idx)
        if self.method == "mean_teacher":
            supervised = super().training_loss((x, y), batch_idx)
            teacher = self.teacher().train(self.model.training)
            with torch.no_grad():
                wanted = teacher(u).float().softmax(1)
            return self.weighted(supervised, F.mse_loss(self.model(v).float().softmax(1), wanted))
        # one forward pass for all images that need gradients, so that batch norm takes its statistics over all of them
        views = [x, v, u] if self.method == "pi" else [x, v]
        logits, *others = self.model(torch.cat(views)).float().split([len(view) for view in views])
        supervised = self.supervised([logits], y, batch_idx)
        if self.method == "pi":
            return self.weighted(supervised, F.mse_loss(others[0].softmax(1), others[1].softmax(1)))
        with torch.no_grad():
            chance, label = self.model(u).float().softmax(1).max(1)
        sure = (chance >= self.threshold).float()
        agreement = (F.cross_entropy(others[0], label, reduction="none") * sure).mean()
        self.log_training(sure=sure.mean())
        return self.weighted(supervised, agreement)

    def weighted(self, supervised: Tensor, agreement: Tensor) -> Tensor:
        """The loss of the labelled images plus λ times the consistency loss; logs the latter."""
        self.log_training(agreement=agreement)
        return supervised + self.lambda_now() * agreement


def averages(trainer: Trainer) -> list[WeightAveraging]:
    """The trainer's callbacks that average weights."""
    return [callback for callback in trainer.callbacks if isinstance(callback, WeightAveraging)]  # type: ignore[attr-defined]
