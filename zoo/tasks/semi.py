"""Semi-supervised classification: few images have labels, and many have none (16.7)."""

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
    """Minimise the loss of images with labels, and λ times what two views of an image without one should agree on.

    "pseudo_label": the class that the model gives to the first view, where it is sure enough, is the label of the
    second (Lee 2013; with a stronger change of the second view, Sohn et al. 2020, equation 4). "pi": the squared
    distance of the probabilities of both views (the Π-model of Laine & Aila 2017). "mean_teacher": that of the second
    view's from those that the averaged weights give to the first (Tarvainen & Valpola 2017); needs callbacks=ema, whose
    average it is, and which is what is tested. "ladder": how well each layer is found again from a noisy copy (Rasmus
    et al. 2015); needs model=ladder, and looks at the first view alone. "none": labels alone, the baseline to stand
    beside, with the same images, updates and changes. A ladder's baseline is weight=0, which keeps its noise.

    Args:
        model, num_classes, loss, tta: see ``Classify``.
        method: one of the five.
        weight: λ at its greatest.
        ramp_up: the share of the run in which λ rises from 0, as exp(−5 (1 − t)²).
        threshold: how probable a pseudo label must be; 0 takes all.
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
                f"task.ramp_up={ramp_up}, task.threshold={threshold}, task.weight={weight}: give shares of 1, and 0 or "
                "more"
            )
        self.method, self.weight, self.ramp_up, self.threshold = method, weight, ramp_up, threshold
        if isinstance(model, Denoising):
            self.calls = (*self.calls, "corrupted_and_cost")
        self.length = 0.0  # of the run, in updates

    def check_output(self, output: Any, x: Tensor, target: Any) -> None:
        """Raise a ``ZooError`` where the method needs another model; called once, before training."""
        super().check_output(output, x, target)
        if self.method == "ladder":
            require(self.model, Denoising, "task.method=ladder", "choose model=ladder")
        if self.method == "ladder" and (x.min() < 0 or x.max() > 1):
            raise ZooError(
                "task.method=ladder adds noise to pixels in [0, 1]: set data.mean=[0.0] and data.std=[1.0] (a value a "
                "channel)"
            )

    def check_run(self, trainer: Trainer, data: Any) -> None:
        super().check_run(trainer, data)
        if not isinstance(data, Unlabelled) or not data.unlabelled:
            raise ZooError("task=semi needs images without labels: set data.unlabelled, as to 256")
        if self.method == "mean_teacher" and not averages(trainer):
            raise ZooError("task.method=mean_teacher needs averaged weights: set 'callbacks=[default,ema]'")
        if isinstance(self.model, Denoising) and trainer.world_size > 1:
            raise ZooError("model=ladder is called in parts, so it trains in one process: leave trainer.devices at 1")

    def on_train_start(self) -> None:
        super().on_train_start()
        self.length = float(self.totals()["total_steps"])

    def teacher(self) -> nn.Module:
        """The model with the averaged weights."""
        return averages(self.trainer)[0]._average_model.module.model  # type: ignore[union-attr]

    def lambda_now(self) -> float:
        """λ at this update."""
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
        # what has gradients goes in one pass, so that batch norm sees it all
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
        """The loss of images with labels, and λ times that of those without."""
        self.log_training(agreement=agreement)
        return supervised + self.lambda_now() * agreement


def averages(trainer: Trainer) -> list[WeightAveraging]:
    """The callbacks that average weights."""
    return [callback for callback in trainer.callbacks if isinstance(callback, WeightAveraging)]  # type: ignore[attr-defined]
