"""Self-contained checkpoints: each holds the config and a card; test metrics are added to the one that is tested."""

import json
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from zoo.config import formats
from zoo.data.base import MemoryData
from zoo.errors import ZooError
from zoo.pretrained.card import Card, portable
from zoo.pretrained.reading import read_checkpoint
from zoo.run.atomic import AtomicCheckpointIO, save_atomically, write_atomically
from zoo.run.curves import Curves
from zoo.run.parallel import load_whole
from zoo.run.resume import METRICS, first_step
from zoo.run.rows import Rows
from zoo.run.states import safe_states
from zoo.tasks.loop import set_batch_step


class Describe(Callback):
    """Makes checkpoints self-contained: the resolved config and a card go into each.

    Args:
        config: the whole resolved config, as plain values.
        data: the data module; its ``card()`` describes the model's inputs and outputs.
        model: the model, for its number of parameters.
        run_dir: the run's folder.
        ended: whether the run is resumed with nothing left to train, so that only its test is missing.

    Attributes:
        chosen: the checkpoint that is tested and receives the test metrics.
        metrics: the test metrics.
        validated: the validation metrics of the chosen weights, as they were when their checkpoint was written.
    """

    def __init__(self, config: dict[str, Any], data: Any, model: nn.Module, run_dir: Path, ended: bool = False):
        self.config, self.run_dir, self.ended = config, run_dir, ended
        self.step: int | None = None  # step of a resumed run's first batch
        self.chosen: Path | None = None
        self.metrics: dict[str, float] = {}
        self.validated: dict[str, float] = {}
        card = Card(
            name=config["name"],
            title=config["card"]["title"] or f"{config['name']}, trained by its user",
            model=config["model"],
            task=config["task"],
            data={**config["data"], "root": None},  # a folder on this machine only
            **data.card(),
            metric=config["card"].get("metric") or config["task"].get("monitor", "val/accuracy").removeprefix("val/"),
            published=config["card"]["published"] or "",
            command=config["card"]["command"],
            licence=config["card"].get("licence") or "",
            hardware=f"{os.cpu_count()} cores of {processor()}",
            versions={"torch": str(torch.__version__), "lightning": lightning.__version__},
            parameters=sum(p.numel() for p in model.parameters()),
        )
        self.card = portable(card)
        self.contents = data.contents() if isinstance(data, MemoryData) else {}  # reveals changes to a resumed run

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop |= self.ended  # Lightning does not restore that early stopping or the timer ended a run

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let an epoch that has fewer updates than ``trainer.log_every_n_steps`` log its last one."""
        updates: Any = -(-trainer.num_training_batches // trainer.accumulate_grad_batches)  # type: ignore[attr-defined]
        trainer.log_every_n_steps = min(trainer.log_every_n_steps, max(1, updates))  # type: ignore[attr-defined]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.step is not None:  # Lightning counts one batch too many when it resumes after a validation
            set_batch_step(trainer, self.step)
            self.step = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        timer = next((c for c in trainer.callbacks if isinstance(c, Timer)), None)  # type: ignore[attr-defined]
        self.card.minutes = round(timer.time_elapsed("train") / 60, 2) if timer else 0.0
        if pl_module.device.type == "cuda":
            self.card.hardware = f"{trainer.world_size} × {torch.cuda.get_device_name()}"
        measured = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        self.card.metrics = measured or self.card.metrics  # until a resumed run validates, the old metrics stay
        checkpoint["format"] = formats.CHECKPOINT
        checkpoint["config"] = self.config
        checkpoint["card"] = asdict(self.card)
        checkpoint["contents"] = self.contents
        # an epoch cut short by max_steps, max_time or a callback is not finished: a longer run resumes in its middle
        loops = checkpoint["loops"]["fit_loop"]
        done = loops["epoch_loop.batch_progress"]["current"]["completed"]
        progress = loops["epoch_progress"]
        cut_short = done < trainer.num_training_batches < float("inf")
        if cut_short and progress["current"]["processed"] == progress["current"]["started"]:
            progress["current"]["processed"] -= 1
            progress["total"]["processed"] -= 1
        for logger in trainer.loggers:  # after kill -9, all that is lost is logged again by the resumed run
            if isinstance(logger, (Curves, Rows)):
                logger.save()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take only numbers from the stored states of callbacks; the paths of checkpoints are those of this run."""
        checkpoint["callbacks"] = safe_states(checkpoint["callbacks"], trainer.callbacks)  # type: ignore[attr-defined]
        self.card.metrics, self.step = dict(checkpoint["card"]["metrics"]), first_step(checkpoint)
        for callback in trainer.early_stopping_callbacks:  # Lightning would restore the old patience
            checkpoint["callbacks"].get(callback.state_key, {})["patience"] = callback.patience

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the test metrics to the chosen checkpoint and the run's folder, before any picture is drawn."""
        if trainer.is_global_zero:
            found = trainer.callback_metrics.items()
            self.metrics = {name: float(value) for name, value in found if name.startswith("test/")}
            self.note_metrics()

    def note_metrics(self) -> None:
        """Write the test metrics to the chosen checkpoint's card, then these and the validation metrics to
        ``metrics.json``, which marks a finished run.
        """
        self.card.metrics = {name.removeprefix("test/"): value for name, value in self.metrics.items()}
        try:
            if self.chosen:
                content = read_checkpoint(self.chosen)
                noted = content["card"]["metrics"].items()
                self.validated = {name: value for name, value in noted if name.startswith("val/")}
                if self.metrics:
                    save_atomically({**content, "card": asdict(self.card)}, self.chosen)
            text = json.dumps({**self.validated, **self.metrics}, indent=2)
            write_atomically(f"{text}\n".encode(), self.run_dir / METRICS)
        except (OSError, RuntimeError) as error:
            rank_zero_warn(f"the test metrics could not be noted in {self.run_dir} ({error})")


def processor() -> str:
    """The CPU's model name, or its architecture if the system does not tell the name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def config_of(trainer: Trainer) -> dict[str, Any]:
    """The resolved config of a trainer's run; empty if the trainer was not created by the zoo."""
    return next((c.config for c in trainer.callbacks if isinstance(c, Describe)), {})  # type: ignore[attr-defined]


def rescued(trainer: Trainer, path: Path) -> Path:
    """The path that a checkpoint was written to: ``path``, or one in a temporary folder if that was impossible."""
    io = trainer.strategy.checkpoint_io
    return io.rescued.get(str(path), path) if isinstance(io, AtomicCheckpointIO) else path


def checkpoint_path(trainer: Trainer, name: str) -> Path | None:
    """The file that the checkpoint callback "best" or "last" wrote, in whichever folder; None if there is none."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.filename == name and callback.best_model_path:
            path = rescued(trainer, Path(callback.best_model_path))
            return path if path.exists() else None
    return None


def whole_last(trainer: Trainer) -> Path | None:
    """The file of "last" if it holds the weights after the last update, else None.

    The main process, which has written it, looks; all processes return the same.
    """
    last = checkpoint_path(trainer, "last") if trainer.is_global_zero else None
    if last is not None and read_checkpoint(last)["global_step"] != trainer.global_step:
        last = None
    return trainer.strategy.broadcast(last)


def check_written(trainer: Trainer) -> None:
    """Raise a ``ZooError`` if nothing was trained, or if ``last.ckpt`` should hold the last update and does not."""
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    if not trainer.global_step:
        raise ZooError("nothing was trained: no batch was taken; look at trainer.max_time and the size of the data")
    callbacks = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.filename == "last"]
    if callbacks and whole_last(trainer) is None:
        raise ZooError(f"the weights after the last update are not in {callbacks[0].dirpath}/last.ckpt")


def load_chosen(trainer: Trainer, task: LightningModule, chosen: Path | None) -> None:
    """Load the chosen checkpoint's weights (with weight averaging: the average) into the task of every process.

    Only the main process reads the file, as it may be on a disk that the others cannot see.
    """
    if chosen is not None:
        weights: Any = read_checkpoint(chosen)["state_dict"] if trainer.is_global_zero else None
        load_whole(task, trainer.strategy.broadcast(weights))
