"""What follows from a run's settings and is decided before it starts."""

import shlex
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf


def init_from_data(model: Any, data: Any) -> None:
    """Initialise a model from training examples, if it supports that.

    A ``FromAllData`` model gets all examples, others as many as have together the pixels of 5,000 images of 32×32.
    """
    from zoo.contracts import FromAllData, FromData

    if isinstance(model, FromData):
        some = max(1, 5000 * 32**2 // data.image_size**2)
        model.init_from_data(data.sample(10**9 if isinstance(model, FromAllData) else some)[0])


def resolved(given: str, config: dict[str, Any]) -> str:
    """An override of the command line, with an interpolation replaced by the value it had in this run."""
    key, _, value = given.partition("=")
    if "${" not in value:
        return given
    return f"{key}={OmegaConf.select(DictConfig(config), key.lstrip('+'))}"


def command_of(config: dict[str, Any], overrides: Sequence[str]) -> str:
    """The command that repeats the run, for its card; for a resumed run with the overrides of every resumption."""
    resumed = any(o.startswith("resume=") for o in overrides)  # see zoo.run.resume.for_resume
    said = [o.removeprefix("++") if resumed else o for o in overrides]
    before = [config["card"]["command"]] if config["card"].get("command") else ["python", "train.py"]
    return " ".join([*before, *(shlex.quote(resolved(o, config)) for o in said if not o.startswith("resume="))])


def resolve_dependent(config: dict[str, Any], task: Any) -> None:
    """Change callbacks and the trainer in a config as its other settings require."""
    callbacks = config["callbacks"]
    if not task.measured or config["data"].get("val_size", 1) == 0:  # no metric to choose the best by
        callbacks["best"], config["select"] = None, "last"
    if not any((config["logger"] or {}).values()):  # LearningRateMonitor does not work without a logger
        callbacks["learning_rate"] = None
    if not config["trainer"].get("enable_progress_bar", True):
        callbacks["progress"] = None
    config["trainer"]["enable_progress_bar"] = callbacks.get("progress") is not None
