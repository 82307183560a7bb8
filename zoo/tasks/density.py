"""Maximum likelihood for models whose log p(x) can be computed exactly (lecture 16.7): by gradients, or by EM."""

from collections.abc import Mapping
from math import log
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo import contracts
from zoo.arguments import Inherited
from zoo.contracts import ClosedForm, PixelByPixel, require
from zoo.errors import ZooError
from zoo.tasks.task import Mean, Task


class Density(Task):
    """Minimise −log p(x), in nats per image; labels are ignored.

    Measures ``nll`` (nats per image) and ``bits_per_dim``, nll / (log 2 · C·H·W).

    Args:
        model: a model with ``log_prob``, which maps images (B, C, H, W) to log p(x) in nats (B,).
        shared: see ``Task``.
    """

    calls_forward = False
    calls = ("log_prob",)
    monitor = "val/nll"

    def __init__(
        self,
        model: nn.Module,
        **shared: Inherited,
    ):
        super().__init__(model, **shared)
        self.measures["nll"], self.dims = Mean(), 1

    def check_output(self, output: Any, x: Tensor, target: Any) -> None:
        """Raise a ``ZooError`` if the model has no ``log_prob`` or it does not suit the data; called once."""
        require(self.model, contracts.Density, "task=density", "choose a model such as made")
        if isinstance(self.model, PixelByPixel) and not ((x == 0) | (x == 1)).all():
            raise ZooError(
                "this model takes pixels that are 0 or 1: set data.binarise=fixed (or stochastic), data.mean=[0.0] and "
                "data.std=[1.0]"
            )
        with torch.no_grad():
            found = self.model.log_prob(x)  # type: ignore[operator]
        if found.shape != (len(x),):
            raise ZooError(f"log_prob of {len(x)} images must give shape ({len(x)},); it gives {tuple(found.shape)}")

    def training_loss(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        nll = -self.model.log_prob(batch[0]).mean()  # type: ignore[operator]
        self.log_training(nll=nll)
        return nll

    def measure(self, batch: tuple[Tensor, Tensor], part: str) -> None:
        x, _ = batch
        self.dims = x[0].numel()
        self.measures["nll"].update(-self.model.log_prob(x).mean(), len(x))  # type: ignore[operator]

    def metrics(self, part: str) -> Mapping[str, Tensor | float]:
        nll = super().metrics(part)["nll"]
        return {"nll": nll, "bits_per_dim": nll / self.dims / log(2)}


class EM(Density):
    """Expectation maximisation (Dempster et al. 1977): an epoch is one E step over all batches, then one M step.

    The likelihood of the training data never falls. EM has no learning rate or other setting, and uses no optimizer.

    Args:
        model: a model with ``log_prob``; with ``statistics``, which maps a batch to sums that can be added over
            batches; and with ``update``, which sets the parameters from those sums, as ``zoo.models.ppca.PPCA``.
        optimizer, scheduler: ignored.
        monitor, mode: see ``Task``.
    """

    calls = ()  # sums and linear systems in 64 bits, which gain nothing from compilation

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any = None,
        scheduler: Any = None,
        monitor: str | None = None,
        mode: Literal["max", "min"] | None = None,
    ):
        super().__init__(model, monitor=monitor, mode=mode)
        self.automatic_optimization = False

    def check_output(self, output: Any, x: Tensor, target: Any) -> None:
        super().check_output(output, x, target)
        require(self.model, ClosedForm, "task=em", "choose model=ppca")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """An optimizer that changes nothing: Lightning counts its steps, and needs them to save checkpoints."""
        return torch.optim.SGD(self.model.parameters(), lr=0.0)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        found = self.model.statistics(batch[0])  # type: ignore[operator]
        self.carried = [a + b for a, b in zip(self.carried, found, strict=True)] if batch_idx else list(found)
        if batch_idx + 1 == self.trainer.num_training_batches:  # in the step, so before the epoch's checkpoint
            sums: Any = self.carried
            if self.trainer.world_size > 1:
                sums = [self.trainer.strategy.reduce(t.clone(), reduce_op="sum") for t in sums]
            self.model.update(*sums)  # type: ignore[operator]
            self.optimizers().step()  # type: ignore[union-attr]
