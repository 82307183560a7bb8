"""What every objective shares: when a model is trained, measured and checked."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import Metric

from zoo.arguments import Inherited
from zoo.contracts import Unlabelled, Validated
from zoo.errors import ZooError
from zoo.tasks.loop import logs_now
from zoo.tasks.optimised import Optimised, made_by


class Task(Optimised):
    """A model, how its weights are updated, and when it is measured.

    A subclass says what is its own: ``training_loss``, how a batch becomes a loss; ``measure``, what a batch of
    validation or test adds to ``measures``; and where that is not all, ``metrics``. Its constructor takes the arguments
    here as ``**shared``.

    Args:
        model, optimizer, scheduler, l1, l2, max_norm, lr_scale, clip_norm: see ``Optimised``.
        monitor, mode: the logged metric by which the best weights are chosen, and whether more of it is better ("max")
            or less ("min"); the checkpoint callback in configs/callbacks/default.yaml reads them. Null is what the
            class says.

    Attributes:
        measures: torchmetrics' metrics of validation and test, by the names that are logged.
    """

    single_process_only = False
    takes_unlabelled = False  # images without labels beside each batch
    measured = True  # validation measures ``monitor``, by which the best weights are chosen
    calls_forward = True  # of the model, and no other method; then its weights can be shared out (trainer=fsdp)
    calls: tuple[str, ...] = ("forward",)  # the model's methods that training calls, which compile=true compiles

    def __init__(self, model: nn.Module, **shared: Inherited):
        super().__init__(model, **shared)
        self.measures = nn.ModuleDict()
        self.carried: Any = None  # what a process hands on from batch to batch; see ``zoo.run.parallel.own_states``

    def forward(self, x: Any) -> Any:
        return self.model(x)

    def check_output(self, output: Any, x: Any, target: Any) -> None:
        """Raise a ``ZooError`` where the model does not give what the task needs; called once, before training."""

    def check_run(self, trainer: Trainer, data: Any) -> None:
        """Raise a ``ZooError`` where trainer or data do not suit the task; called once, before anything is written."""
        if self.single_process_only and not isinstance(trainer.strategy, SingleDeviceStrategy):
            raise ZooError(f"{type(self).__name__} trains in one process: leave trainer.strategy at auto")
        if not self.takes_unlabelled and isinstance(data, Unlabelled) and data.unlabelled:
            raise ZooError("data.unlabelled is for task=semi; for another task set it to 0")
        watching = made_by(self.make_scheduler) is ReduceLROnPlateau or trainer.early_stopping_callbacks
        if watching and isinstance(data, Validated) and data.val_size == 0:
            raise ZooError("callbacks=early_stopping and scheduler=plateau watch the validation: set data.val_size")
        if watching and trainer.limit_val_batches == 0:
            raise ZooError(
                "callbacks=early_stopping and scheduler=plateau watch the validation, and there is none: leave out "
                "trainer.limit_val_batches"
            )

    # --- the rhythm of a run --------------------------------------------------------------------------------------

    def training_loss(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of a batch that training minimises, (), without the penalties of ``l1`` and ``l2``."""
        raise NotImplementedError(f"{type(self).__name__} has no training_loss; see zoo.tasks.task.Task")

    def start_measuring(self, part: str) -> None:
        """Called before the first batch of a part, "val" or "test"."""

    def measure(self, batch: Any, part: str) -> Any:
        """Add a batch of "val" or "test" to ``measures``; what it returns of the test is for callbacks that look at
        single predictions.
        """
        raise NotImplementedError(f"{type(self).__name__} has no measure; see zoo.tasks.task.Task")

    def metrics(self, part: str) -> Mapping[str, Tensor | float]:
        """The metrics of a part, by their names."""
        measured = {name: measure for name, measure in self.measures.items() if isinstance(measure, Metric)}
        return {name: measure.compute() for name, measure in measured.items() if measure.update_called}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        loss = self.training_loss(batch, batch_idx)
        return loss + self.penalty() if self.l1 or self.l2 else loss

    def log_training(self, **values: Tensor) -> None:
        """Log values of a training batch by their names, at the steps whose curves get a point."""
        if logs_now(self.trainer):  # each self.log costs as much as a small layer
            for name, value in values.items():
                self.log(f"train/{name}", value.detach(), prog_bar=name in ("loss", self.headline()))

    def headline(self) -> str:
        """The metric that the class watches, which the progress bar shows of training and of validation."""
        return type(self).monitor.removeprefix("val/")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.measure(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        with torch.autocast(self.device.type, enabled=False):  # whatever it was trained in, weights are used in 32 bits
            return self.measure(batch, "test")

    def on_validation_epoch_start(self) -> None:
        self.start_measuring("val")

    def on_test_epoch_start(self) -> None:
        self.start_measuring("test")

    def on_validation_epoch_end(self) -> None:
        self.report("val")

    def on_test_epoch_end(self) -> None:
        self.report("test")

    def report(self, part: str) -> None:
        """Log the metrics of a part, and begin anew."""
        for name, value in self.metrics(part).items():
            self.log(f"{part}/{name}", value, prog_bar=part == "val" and name == self.headline())
        for measure in self.measures.values():
            measure.reset()  # type: ignore[operator]


class Mean(Metric):
    """A mean over examples. A NaN stays one, and nothing waits for the device to look for any.

    (torchmetrics' ``MeanMetric`` looks for NaNs and leaves them out, or with ``nan_strategy="disable"`` forgets the
    weights.)
    """

    full_state_update = False
    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "weight"):
            self.add_state(name, torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, value: Tensor, n: int | Tensor) -> None:
        """Add the mean () of n examples."""
        self.total += value * n
        self.weight += n

    def compute(self) -> Tensor:
        return self.total / self.weight


def check_kind(task: Any) -> None:
    """Raise a ``ZooError`` where what a config calls a task is none."""
    if not isinstance(task, Task):
        kind = type(task)
        raise ZooError(
            f"task={kind.__module__}.{kind.__qualname__} is no task: an own one is a subclass of zoo.tasks.task.Task"
        )
