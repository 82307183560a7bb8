"""What the callbacks have in common that show something of a model after each validation."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from zoo.callbacks.curves import drawing
from zoo.callbacks.tensorboard import writer_of


class OnValidation(Callback):
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
        if (writer := writer_of(trainer)) and not trainer.sanity_checking and self.fits(task, model):
            mode = model.training
            with drawing(self), torch.random.fork_rng():
                self.show(writer, trainer, task, model.eval())
            model.train(mode)

    def fits(self, task: LightningModule, model: Any) -> bool:
        """Whether there is anything to show of these."""
        return True

    def show(self, writer: Any, trainer: Trainer, task: Any, model: Any) -> None:
        raise NotImplementedError
