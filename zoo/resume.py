"""Going on with a run: its checkpoint, its config, and what may not have changed since."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from zoo.config import differing
from zoo.errors import ZooError


def find_resume(resume: str | None) -> Path | None:
    """The checkpoint of ``resume=PATH`` (a file, or a run's folder) or ``resume=last``, the newest under logs/."""
    if not resume:
        return None
    if resume == "last":
        found = sorted(Path("logs").glob("**/checkpoints/last.ckpt"), key=lambda p: p.stat().st_mtime)
        if not found:
            raise ZooError("resume=last: there is no checkpoint under logs/ yet; start a run first")
        return found[-1]
    path = Path(resume)
    for candidate in (path, path / "last.ckpt", path / "checkpoints" / "last.ckpt"):
        if candidate.is_file():
            return candidate
    raise ZooError(f"resume={resume}: there is no such checkpoint; give a file, a run's folder, or last")


def resumed_config(cfg: DictConfig, resume: Path) -> DictConfig:
    """The config that the checkpoint was trained with, and this command's overrides of single values on top.

    Of the file it takes numbers and choices; see ``zoo.stored``.
    """
    from zoo.pretrained import read_checkpoint
    from zoo.stored import Known, config_folders, taken

    content = read_checkpoint(resume)
    if not isinstance(content, dict) or "config" not in content:
        raise ZooError(f"{resume} was not written by a training of this zoo, so it cannot be resumed")
    said = [override.lstrip("+").partition("=")[0] for override in HydraConfig.get().overrides.task]
    config = taken(content["config"], Known(config_folders()), said, str(resume))
    stored: Any = OmegaConf.create(config)
    OmegaConf.set_struct(stored, True)
    for override in HydraConfig.get().overrides.task:
        key, _, _ = override.lstrip("+").partition("=")
        if key == "resume":
            continue
        if key.partition(".")[0] in ("optimizer", "scheduler") and not says_again(override, config):
            raise ZooError(
                f"{override}: a resumed run keeps its optimizer and scheduler, which are in the checkpoint; to go on "
                f"with other ones, start anew from its weights: init.weights={resume}"
            )
        if key in ("experiment", "debug") or OmegaConf.is_config(OmegaConf.select(cfg, key)):
            raise ZooError(
                f"{override}: a resumed run keeps its {key}; override single values, as in trainer.max_epochs=20"
            )
        with open_dict(stored):
            OmegaConf.update(stored, key, OmegaConf.select(cfg, key))
    done, epochs = content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"], stored.trainer.max_epochs
    if epochs is not None and 0 < epochs <= done:
        raise ZooError(f"{resume}: this run is finished, after {done} epochs; to go on, set trainer.max_epochs higher")
    return stored


def says_again(override: str, stored: Mapping[str, Any]) -> bool:
    """Whether an override names the class that a stored config has at its place."""
    key, _, value = override.lstrip("+").partition("=")
    return key.endswith("._target_") and OmegaConf.select(OmegaConf.create(stored), key) == value


def check_same(data: Any, model: Any, resume: Path) -> None:
    """Raise a ``ZooError`` where a model's inputs would mean something else than they did, as after a text changed, or
    where its tensors are not those of the checkpoint, as after an override of its width.
    """
    from zoo.pretrained import read_checkpoint

    anew = f"start anew from its weights: init.weights={resume}"
    content = read_checkpoint(resume)
    if data.card()["preprocess"] != content["card"]["preprocess"]:
        raise ZooError(
            f"resume={resume}: the data are not what they were: their preprocessing or vocabulary has changed; bring "
            f"them back, or {anew}"
        )
    before = {key: tuple(value.shape) for key, value in content["state_dict"].items() if key.startswith("model.")}
    now = {f"model.{key}": tuple(value.shape) for key, value in model.state_dict().items()}
    if other := differing(before, now):
        was, is_ = (shapes.get(other[0], "missing") for shapes in (before, now))
        raise ZooError(
            f"resume={resume}: a resumed run keeps its model's layers, and {other[0]} was {was} and would be {is_}; "
            f"leave out what changes them, or {anew}, with init.skip for what does not fit"
        )
