"""What every picture in TensorBoard is: a callback that says by itself which runs it fits, and never ends one.

A picture of one's own is a subclass of ``Picture``, ``OnValidation`` or ``OnTest`` and an entry in a config; nothing
else has to know of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from zoo.run.parallel import FullyShard


class Picture(Callback):
    """Something that TensorBoard shows; before a run starts, the pictures that do not fit it are left out."""

    whole_weights = False  # it reads weights, which no process has whole under trainer=fsdp

    def fits(self, task: Any, data: Any) -> bool:
        """Whether there is anything to show of a task, its ``model``, and data."""
        return True


def leave_out_unfit(trainer: Trainer, task: LightningModule, data: Any) -> None:
    """Take the pictures out of a trainer's callbacks that do not fit the run."""
    sharded = isinstance(trainer.strategy, FullyShard)
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    trainer.callbacks = [  # type: ignore[attr-defined]
        callback
        for callback in callbacks
        if not isinstance(callback, Picture) or (callback.fits(task, data) and not (sharded and callback.whole_weights))
    ]


def writer_of(trainer: Trainer) -> Any | None:
    """The run's SummaryWriter on the main process; None without a TensorBoard logger."""
    logger = trainer.logger
    return logger.experiment if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero else None


@contextmanager
def drawing(what: Any) -> Iterator[None]:
    """A picture must not end a run: what goes wrong in a callback's drawing is a warning."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        rank_zero_warn(f"the picture of {type(what).__name__} cannot be drawn ({reason}); the run goes on without it")


class OnValidation(Picture):
    """Shows something of the model in eval mode at each validation, of averaged weights if there are some; the run's
    random numbers are left alone.
    """

    every_epoch = False  # where nothing is validated, after each epoch instead, of the weights as they are

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.look(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.every_epoch and not sum(trainer.num_val_batches):
            self.look(trainer, pl_module)

    def look(self, trainer: Trainer, task: LightningModule) -> None:
        model: Any = task.model
        if (writer := writer_of(trainer)) and not trainer.sanity_checking:
            mode = model.training
            with drawing(self), torch.random.fork_rng():
                self.show(writer, trainer, task, model.eval())
            model.train(mode)

    def show(self, writer: Any, trainer: Trainer, task: Any, model: Any) -> None:
        raise NotImplementedError


class OnTest(Picture):
    """Collects the test's predictions and shows them when it ends."""

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.outputs: list[tuple[Tensor, Tensor]] = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.outputs.append(outputs)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # under several processes the order of the examples is spread; the pictures are for one
        if (writer := writer_of(trainer)) and self.outputs and trainer.world_size == 1:
            with drawing(self):
                logits, labels = (torch.cat(parts).cpu() for parts in zip(*self.outputs, strict=True))
                self.show(writer, trainer, pl_module, logits, labels)
        self.outputs = []

    def show(self, writer: Any, trainer: Any, task: Any, logits: Tensor, labels: Tensor) -> None:
        raise NotImplementedError
