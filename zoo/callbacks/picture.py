"""The base classes of the callbacks that draw in TensorBoard.

Each decides by itself which runs it is for, and an error while drawing never ends a run. To add one of your own, write
a subclass of ``Picture``, ``OnValidation`` or ``OnTest`` and name it in a config; nothing else needs to change.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torchvision.utils import save_image

from zoo.run.parallel import FullyShard
from zoo.run.resume import PICTURES


class Picture(Callback):
    """A callback that writes to TensorBoard; those whose ``fits`` is False are removed before a run starts."""

    whole_weights = False  # whether it reads complete weights, which no process has under trainer=fsdp

    def fits(self, task: Any, data: Any) -> bool:
        """Whether this picture applies to a task, its ``model`` and the data."""
        return True


def leave_out_unfit(trainer: Trainer, task: LightningModule, data: Any) -> None:
    """Remove the pictures that do not apply to the run from the trainer's callbacks."""
    sharded = isinstance(trainer.strategy, FullyShard)
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    trainer.callbacks = [  # type: ignore[attr-defined]
        callback
        for callback in callbacks
        if not isinstance(callback, Picture) or (callback.fits(task, data) and not (sharded and callback.whole_weights))
    ]


def writer_of(trainer: Trainer) -> Any | None:
    """The run's SummaryWriter on the main process; None without a TensorBoard logger."""
    found = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    return found[0].experiment if found and trainer.is_global_zero else None


def canvas_of(trainer: Trainer) -> Any | None:
    """Where the main process draws: TensorBoard, and files for the run's other loggers; None without loggers.

    Weights & Biases and MLflow get a copy of each file. Beside TensorBoard a CSV file needs no files.
    """
    if not (trainer.loggers and trainer.is_global_zero):
        return None
    writer = writer_of(trainer)
    takers = [logger for logger in trainer.loggers if isinstance(logger, (WandbLogger, MLFlowLogger))]
    files = Files(Path(trainer.default_root_dir) / PICTURES, takers)
    return Several(writer, files) if writer and takers else writer or files


class Files:
    """Pictures and texts in a folder, a file for each tag and step; the methods are those of torch's SummaryWriter.

    Args:
        folder: is made when the first file is written.
        takers: loggers that get a copy of each file.
    """

    def __init__(self, folder: Path, takers: Sequence[WandbLogger | MLFlowLogger] = ()):
        self.folder, self.takers = folder, takers

    def path(self, tag: str, step: int, suffix: str) -> Path:
        """The path of a new file, such as pictures/samples-937.png; its name has only letters, digits, _ and -."""
        self.folder.mkdir(exist_ok=True)
        return self.folder / f"{re.sub(r'[^A-Za-z0-9_]+', '-', tag)}-{step}{suffix}"

    def add_image(self, tag: str, image: Tensor, step: int) -> None:
        """Write an image (3 or 1, H, W) with values in [0, 1]."""
        path = self.path(tag, step, ".png")
        save_image(image, path)
        self.pass_on(tag, path, step)

    def add_figure(self, tag: str, figure: Any, step: int, close: bool = True) -> None:
        path = self.path(tag, step, ".png")
        figure.savefig(path)
        self.pass_on(tag, path, step)

    def add_text(self, tag: str, text: str, step: int) -> None:
        path = self.path(tag, step, ".txt")
        path.write_text(text, encoding="utf-8")
        self.pass_on(tag, path, step)

    def pass_on(self, tag: str, path: Path, step: int) -> None:
        """Give the loggers a copy: Weights & Biases pictures only, whose texts are tables; MLflow any file."""
        for logger in self.takers:
            if isinstance(logger, MLFlowLogger):
                logger.experiment.log_artifact(logger.run_id, str(path), PICTURES)
            elif path.suffix == ".png":
                logger.log_image(tag, [str(path)], step)


class Several:
    """Pictures and texts in several places at once."""

    def __init__(self, *places: Any):
        self.places = places

    def add_image(self, tag: str, image: Tensor, step: int) -> None:
        for place in self.places:
            place.add_image(tag, image, step)

    def add_figure(self, tag: str, figure: Any, step: int, close: bool = True) -> None:
        for place in self.places:
            place.add_figure(tag, figure, step, close=close)

    def add_text(self, tag: str, text: str, step: int) -> None:
        for place in self.places:
            place.add_text(tag, text, step)


@contextmanager
def drawing(what: Any) -> Iterator[None]:
    """Turn any error in the block into a warning, as a failed drawing must not end a run."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        rank_zero_warn(f"the picture of {type(what).__name__} cannot be drawn ({reason}); the run goes on without it")


class OnValidation(Picture):
    """A picture drawn at each validation, with the model in eval mode and with averaged weights if there are any. It
    does not change the run's random numbers.
    """

    every_epoch = False  # without validation, whether to draw after each training epoch instead, with current weights

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.look(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.every_epoch and not sum(trainer.num_val_batches):
            self.look(trainer, pl_module)

    def look(self, trainer: Trainer, task: LightningModule) -> None:
        model: Any = task.model
        if (writer := canvas_of(trainer)) and not trainer.sanity_checking:
            mode = model.training
            with drawing(self), torch.random.fork_rng():
                self.show(writer, trainer, task, model.eval())
            model.train(mode)

    def show(self, writer: Any, trainer: Trainer, task: Any, model: Any) -> None:
        raise NotImplementedError


class OnTest(Picture):
    """A picture of all test predictions, drawn at the end of the test."""

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
        # with several processes each has some of the examples only, so nothing is drawn
        if (writer := canvas_of(trainer)) and self.outputs and trainer.world_size == 1:
            with drawing(self):
                logits, labels = (torch.cat(parts).cpu() for parts in zip(*self.outputs, strict=True))
                self.show(writer, trainer, pl_module, logits, labels)
        self.outputs = []

    def show(self, writer: Any, trainer: Any, task: Any, logits: Tensor, labels: Tensor) -> None:
        raise NotImplementedError
