"""Maximum likelihood for models whose log p(x) is exact (16.7): by gradients, or by EM."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import Optimizer
from torchmetrics import MeanMetric

from zoo.errors import ZooError
from zoo.tasks.task import Task


class Density(Task):
    """Minimise −log p(x), in nats an image; labels are not looked at.

    Measures ``nll`` (nats an image), and ``bits_per_dim``, nll / log 2 / the pixels of an image.

    Args:
        model: with ``log_prob``, from images (B, C, H, W) to nats (B,).
        optimizer, scheduler, l1, l2, max_norm, clip_norm, lr_scale, monitor, mode: see ``Task``.
    """

    calls_forward = False
    calls = ("log_prob",)
    shows = ("kernels", "sample_grid")

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[[Iterable], Optimizer] | None = None,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        max_norm: float | None = None,
        clip_norm: float | None = None,
        lr_scale: Mapping[str, float] | None = None,
        monitor: str = "val/nll",
        mode: Literal["max", "min"] = "min",
    ):
        super().__init__(model, optimizer, scheduler, l1, l2, max_norm, lr_scale, monitor, mode, clip_norm)
        self.nll, self.dims = MeanMetric(), 1

    def check_output(self, output: Any, x: Tensor, target: Any) -> None:
        """Raise a ``ZooError`` where the model has no likelihood; called once, before training."""
        if not hasattr(self.model, "log_prob"):
            raise ZooError("task=density needs a model with log_prob, as model=made")
        if hasattr(self.model, "logits") and not ((x == 0) | (x == 1)).all():
            raise ZooError(
                "this model is of pixels that are 0 or 1: set data.binarise=fixed (or stochastic), data.mean=[0.0] and "
                "data.std=[1.0]"
            )
        with torch.no_grad():
            found = self.model.log_prob(x)  # type: ignore[operator]
        if found.shape != (len(x),):
            raise ZooError(f"log_prob of {len(x)} images must give as many numbers; it gives {tuple(found.shape)}")

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        nll = -self.model.log_prob(batch[0]).mean()  # type: ignore[operator]
        if self.trainer._logger_connector.should_update_logs:
            self.log("train/nll", nll.detach(), prog_bar=True)
        return nll + self.penalty()

    def measure(self, x: Tensor) -> None:
        self.dims = x[0].numel()
        self.nll.update(-self.model.log_prob(x).mean(), len(x))  # type: ignore[operator]

    def measured(self, part: str) -> dict[str, Tensor]:
        """The metrics of a part, and a new beginning."""
        nll = self.nll.compute()
        self.nll.reset()
        return {f"{part}/nll": nll, f"{part}/bits_per_dim": nll / self.dims / torch.log(torch.tensor(2.0))}

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.measure(batch[0])

    def on_validation_epoch_end(self) -> None:
        metrics = self.measured("val")
        self.log("val/nll", metrics.pop("val/nll"), prog_bar=True)
        self.log_dict(metrics)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        with torch.autocast(self.device.type, enabled=False):  # whatever it was trained in
            self.measure(batch[0])

    def on_test_epoch_end(self) -> None:
        self.log_dict(self.measured("test"))


class EM(Density):
    """Expectation maximisation (Dempster et al. 1977): an epoch is one E step over all batches, then one M step.

    Nothing is chosen but the model, so there is no optimizer; the likelihood of the training data never falls.

    Args:
        model: with ``log_prob``; ``statistics``, from a batch to sums that add over batches; and ``update`` from
            those, as ``zoo.models.ppca.PPCA``.
        optimizer, scheduler: not used.
        monitor, mode: see ``Task``.
    """

    calls = ()  # sums and solutions of linear equations in 64 bits, from which there is nothing to gain

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any = None,
        scheduler: Any = None,
        monitor: str = "val/nll",
        mode: Literal["max", "min"] = "min",
    ):
        super().__init__(model, monitor=monitor, mode=mode)
        self.automatic_optimization = False

    def check_output(self, output: Any, x: Tensor, target: Any) -> None:
        super().check_output(output, x, target)
        if not (hasattr(self.model, "statistics") and hasattr(self.model, "update")):
            raise ZooError("task=em needs a model with an E and an M step, as model=ppca")

    def configure_optimizers(self) -> Optimizer:
        """One that changes nothing: its steps are what Lightning counts, and saves checkpoints by."""
        return torch.optim.SGD(self.model.parameters(), lr=0.0)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        found = self.model.statistics(batch[0])  # type: ignore[operator]
        self.carried = [a + b for a, b in zip(self.carried, found, strict=True)] if batch_idx else list(found)
        if batch_idx + 1 == self.trainer.num_training_batches:  # in the step, so that a checkpoint is after it
            sums: Any = self.carried
            if self.trainer.world_size > 1:
                sums = [self.trainer.strategy.reduce(t.clone(), reduce_op="sum") for t in sums]
            self.model.update(*sums)  # type: ignore[operator]
            self.optimizers().step()  # type: ignore[union-attr]
