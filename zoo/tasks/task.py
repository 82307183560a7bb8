"""The base class of all tasks: when a model is checked, trained and measured."""

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

    A subclass implements ``training_loss``, which turns a batch into a loss, and ``measure``, which updates
    ``measures`` with a validation or test batch. It overrides ``metrics`` where the logged values are more than those
    of ``measures``. Its constructor passes the arguments below on as ``**shared``.

    Args:
        model, optimizer, scheduler, l1, l2, max_norm, lr_scale, clip_norm: see ``Optimised``.
        monitor, mode: the logged metric by which the best weights are chosen, and whether a higher value is better
            ("max") or a lower one ("min"); the checkpoint callback in configs/callbacks/default.yaml reads them. Null
            takes the defaults of the task's class.

    Attributes:
        measures: the torchmetrics objects of validation and test, by the names under which they are logged.
    """

    single_process_only = False
    takes_unlabelled = False  # whether each batch comes with images without labels
    measured = True  # whether validation logs ``monitor``, by which the best weights are chosen
    calls_forward = True  # whether only the model's ``forward`` is called, as sharded weights need (trainer=fsdp)
    calls: tuple[str, ...] = ("forward",)  # the model's methods that training calls, which compile=true compiles

    def __init__(self, model: nn.Module, **shared: Inherited):
        super().__init__(model, **shared)
        self.measures = nn.ModuleDict()
        self.carried: Any = None  # what a process keeps from one batch to the next; see ``zoo.run.parallel.own_states``

    def forward(self, x: Any) -> Any:
        return self.model(x)

    def check_output(self, output: Any, x: Any, target: Any) -> None:
        """Raise a ``ZooError`` if the model's output does not suit the task; called once, before training."""

    def check_run(self, trainer: Trainer, data: Any) -> None:
        """Raise a ``ZooError`` if trainer or data do not suit the task; called once, before anything is written."""
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

    # --- training, validation and test ----------------------------------------------------------------------------

    def training_loss(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of a batch that training minimises, a scalar (), without the penalties of ``l1`` and ``l2``."""
        raise NotImplementedError(f"{type(self).__name__} has no training_loss; see zoo.tasks.task.Task")

    def start_measuring(self, part: str) -> None:
        """Prepare to measure a part, "val" or "test"; called before its first batch."""

    def measure(self, batch: Any, part: str) -> Any:
        """Update ``measures`` with a batch of "val" or "test".

        Whatever it returns for a test batch is passed to the callbacks that look at single predictions.
        """
        raise NotImplementedError(f"{type(self).__name__} has no measure; see zoo.tasks.task.Task")

    def metrics(self, part: str) -> Mapping[str, Tensor | float]:
        """The metrics of a part, "val" or "test", by name."""
        measured = {name: measure for name, measure in self.measures.items() if isinstance(measure, Metric)}
        return {name: measure.compute() for name, measure in measured.items() if measure.update_called}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        loss = self.training_loss(batch, batch_idx)
        return loss + self.penalty() if self.l1 or self.l2 else loss

    def log_training(self, **values: Tensor) -> None:
        """Log values of a training batch by name, at every ``trainer.log_every_n_steps``-th step only."""
        if logs_now(self.trainer):  # each self.log costs as much as a small layer
            for name, value in values.items():
                self.log(f"train/{name}", value.detach(), prog_bar=name in ("loss", self.headline()))

    def headline(self) -> str:
        """The metric that the progress bar shows for training and validation: the class's default ``monitor``."""
        return type(self).monitor.removeprefix("val/")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.measure(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        with torch.autocast(self.device.type, enabled=False):  # tested in 32 bits, however it was trained
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
        """Log the metrics of a part and reset them."""
        for name, value in self.metrics(part).items():
            self.log(f"{part}/{name}", value, prog_bar=part == "val" and name == self.headline())
        for measure in self.measures.values():
            measure.reset()  # type: ignore[operator]


class Mean(Metric):
    """The mean of a value over all examples. A NaN makes the mean NaN, and ``update`` never waits for the device.

    (torchmetrics' ``MeanMetric`` searches each value for NaNs and drops them, which makes the host wait for the
    device; with ``nan_strategy="disable"`` it ignores the weights.)
    """

    full_state_update = False
    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "weight"):
            self.add_state(name, torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, value: Tensor, n: int | Tensor) -> None:
        """Add n examples, given the mean of their values, a scalar ()."""
        self.total += value * n
        self.weight += n

    def compute(self) -> Tensor:
        return self.total / self.weight


def check_kind(task: Any) -> None:
    """Raise a ``ZooError`` if the object that a task config builds is not a ``Task``."""
    if not isinstance(task, Task):
        kind = type(task)
        raise ZooError(
            f"task={kind.__module__}.{kind.__qualname__} is not a task: it must be a subclass of zoo.tasks.task.Task"
        )
