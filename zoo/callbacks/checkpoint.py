"""Checkpoints that are never half-written and that say what they are."""

import json
import os
import platform
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from zoo import formats
from zoo.card import Card
from zoo.errors import ZooError
from zoo.parallel import load_whole
from zoo.pretrained import read_checkpoint


def save_atomically(content: dict[str, Any], path: Path) -> None:
    """Write beside the target and move into place: whoever looks sees the old file or the new, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoints, written atomically. On a full or read-only disk training goes on: the checkpoint goes
    to the system's temporary folder, and the last good one stays where it is.

    Attributes:
        rescued: where checkpoints went that could not be written to their place, by that place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rescued: dict[str, Path] = {}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path = Path(path)
        try:
            save_atomically(checkpoint, path)
            self.rescued.pop(str(path), None)
        except (OSError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError
            refuge = self.rescued.get(str(path)) or Path(tempfile.mkdtemp(prefix="zoo-rescue-")) / path.name
            try:
                save_atomically(checkpoint, refuge)
            except (OSError, RuntimeError):
                raise ZooError(
                    f"no checkpoint could be written to {path} ({error}) nor to {refuge.parent}; the last good one "
                    f"is kept; free some space and go on with resume={path.parent / 'last.ckpt'}"
                ) from None
            self.rescued[str(path)] = refuge
            rank_zero_warn(f"{path} could not be written ({error}); training goes on, the checkpoint is in {refuge}")

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """A checkpoint to go on from, as every other reader has it: on the CPU, and by today's names."""
        return read_checkpoint(Path(path))


class Describe(Callback):
    """Makes checkpoints self-contained: the resolved config and a card go into each.

    Args:
        config: the whole resolved config, plain values.
        data: the data module; its ``card()`` says what goes in and comes out.
        model: the model, for its number of parameters.
    """

    def __init__(self, config: dict[str, Any], data: Any, model: nn.Module):
        self.config = config
        self.card = Card(
            name=config["name"],
            title=config["card"]["title"] or f"{config['name']}, trained by its user",
            model=config["model"],
            task=config["task"],
            data={**config["data"], "root": None},  # a folder of this machine
            **data.card(),
            metric=config["card"].get("metric") or config["task"].get("monitor", "val/accuracy").removeprefix("val/"),
            published=config["card"]["published"] or "",
            command=config["card"]["command"],
            hardware=f"{os.cpu_count()} cores of {processor()}",
            versions={"torch": str(torch.__version__), "lightning": lightning.__version__},
            parameters=sum(p.numel() for p in model.parameters()),
        )

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        timer = next((c for c in trainer.callbacks if isinstance(c, Timer)), None)  # type: ignore[attr-defined]
        self.card.minutes = round(timer.time_elapsed("train") / 60, 2) if timer else 0.0
        if pl_module.device.type == "cuda":
            self.card.hardware = f"{trainer.world_size} × {torch.cuda.get_device_name()}"
        self.card.metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        checkpoint["format"] = formats.CHECKPOINT
        checkpoint["config"] = self.config
        checkpoint["card"] = asdict(self.card)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """The folder of a resumed run may have another name by now; the checkpoint callbacks go on in it."""
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint["callbacks"].get(callback.state_key)
            if state and isinstance(callback, ModelCheckpoint) and callback.dirpath:
                old, new = str(state["dirpath"]), str(callback.dirpath)
                checkpoint["callbacks"][callback.state_key] = renamed(state, old, new)

    def finish(self, metrics: dict[str, float], chosen: Path | None, run_dir: Path) -> None:
        """Note the test metrics in the run's folder and in the chosen checkpoint."""
        self.card.metrics = {name.removeprefix("test/"): value for name, value in metrics.items()}
        try:
            (run_dir / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
            if chosen and metrics:
                save_atomically({**read_checkpoint(chosen), "card": asdict(self.card)}, chosen)
        except (OSError, RuntimeError) as error:
            rank_zero_warn(f"the test metrics could not be noted in {run_dir} ({error})")


def renamed(node: Any, old: str, new: str) -> Any:
    """A checkpoint callback's state with the paths under one folder put under another."""
    if isinstance(node, dict):
        return {renamed(key, old, new): renamed(value, old, new) for key, value in node.items()}
    return new + node[len(old) :] if isinstance(node, str) and node.startswith(old) else node


def processor() -> str:
    """The CPU's name as people know it, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def written(trainer: Trainer, name: str) -> Path | None:
    """The file that the checkpoint callback "best" or "last" wrote, wherever that was; None if none is there."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.filename == name and callback.best_model_path:
            rescued = getattr(trainer.strategy.checkpoint_io, "rescued", {})
            path = Path(rescued.get(callback.best_model_path, callback.best_model_path))
            return path if path.exists() else None
    return None


def load_chosen(task: LightningModule, chosen: Path | None) -> None:
    """Put the chosen checkpoint's weights (with weight averaging: the average) into the task."""
    if chosen is not None:
        load_whole(task, read_checkpoint(chosen)["state_dict"])
