"""What follows from a run's choices, before it starts."""

import shlex
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf


def init_from_data(model: Any, data: Any) -> None:
    """Let a model start from training examples, where it does so: from all, or from as many as have so many pixels."""
    from zoo.contracts import FromAllData, FromData

    if isinstance(model, FromData):
        some = max(1, 5000 * 32**2 // data.image_size**2)
        model.init_from_data(data.sample(10**9 if isinstance(model, FromAllData) else some)[0])


def resolved(given: str, config: dict[str, Any]) -> str:
    """An override of the command line; one with an interpolation has the value that it had."""
    key, _, value = given.partition("=")
    if "${" not in value:
        return given
    return f"{key}={OmegaConf.select(DictConfig(config), key.lstrip('+'))}"


def command_of(config: dict[str, Any]) -> str:
    """The command that makes the run again, which its card says; of a resumed run with what was said since."""
    overrides = (o for o in HydraConfig.get().overrides.task if not o.startswith("resume="))
    before = [config["card"]["command"]] if config["card"].get("command") else ["python", "train.py"]
    return " ".join([*before, *(shlex.quote(resolved(o, config)) for o in overrides)])


def resolve_dependent(config: dict[str, Any], task: Any) -> None:
    """Set what follows from other choices."""
    callbacks = config["callbacks"]
    if not task.measured or config["data"].get("val_size", 1) == 0:  # nothing to choose the best by
        callbacks["best"], config["select"] = None, "last"
    if not config["logger"]:  # Lightning's monitor of the learning rate insists on one
        callbacks["learning_rate"] = None
    if not config["trainer"].get("enable_progress_bar", True):
        callbacks["progress"] = None
    config["trainer"]["enable_progress_bar"] = callbacks.get("progress") is not None
