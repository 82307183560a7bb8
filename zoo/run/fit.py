"""Training from Python: ``zoo.fit`` is the command ``train.py`` as a function."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from zoo.config.checks import choices
from zoo.config.overrides import hydra_value
from zoo.config.own import allow_said
from zoo.config.registry import list_models
from zoo.contracts import Loaded
from zoo.errors import ZooError
from zoo.paths import CONFIGS, in_home
from zoo.run.ahead import missing_folders, remove_unused
from zoo.run.compose import composed, hydra_of_its_own, own_configs
from zoo.run.explain import message
from zoo.run.guard import Interrupted
from zoo.run.history import History, Record
from zoo.run.resume import for_resume
from zoo.run.said import Said


class Run(NamedTuple):
    """A finished run.

    Attributes:
        metrics: the metrics of the test by name, such as ``metrics["accuracy"]``, from 0 to 1; with ``test=False``
            those of the validation.
        history: a row of metrics for each epoch that this call trained.
        model: the trained model in eval mode, as ``zoo.load(run.checkpoint)`` gives it; None if no checkpoint was
            written.
        folder: the run's folder, with its checkpoints and TensorBoard's curves.
        checkpoint: the checkpoint that was tested; None if none was written.
    """

    metrics: dict[str, float]
    history: History
    model: Loaded | None
    folder: Path
    checkpoint: Path | None


def fit(experiment: str | None = None, /, **settings: Any) -> Run:
    """Train a model; the result equals that of the command ``train.py`` with the same settings, bit for bit.

    ::

        run = zoo.fit("lenet5_mnist", **{"optimizer.lr": 0.05, "trainer.max_epochs": 5})
        run = zoo.fit(model="mlp", data="fashion_mnist", callbacks=["default", "ema"])
        run.metrics["accuracy"], run.model, run.history

    Args:
        experiment: the name of a published result, a file in ``configs/experiment/``.
        settings: choices, such as ``model="mlp"``, and values by their dotted keys, as on the command line;
            ``"+task.lr_scale"`` adds a key that the config does not have. ``resume=run.folder`` continues a run.

    Raises:
        ZooError: a setting is unknown or invalid, or the run failed for a reason that the message explains.
        KeyboardInterrupt: the run was stopped; the message says how to continue it.
    """
    if experiment in list_models() and experiment not in choices("experiment"):
        raise ZooError(f"{experiment!r} is a model, not an experiment: zoo.fit(model={experiment!r})")
    overrides = [f"experiment={experiment}"] if experiment is not None else []
    overrides = for_resume([*overrides, *(f"{key}={value_of(key, value)}" for key, value in settings.items())])
    try:
        with warnings.catch_warnings(), hydra_of_its_own():
            return run(overrides)
    except Interrupted as stop:
        raise KeyboardInterrupt(str(stop)) from None
    except ZooError:
        raise
    except Exception as error:
        line, foreseen = message(error, overrides)
        if foreseen:
            raise ZooError(line) from None
        raise


def value_of(key: str, value: Any) -> str:
    """A value from Python in the grammar of Hydra's command line."""
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str) and value.startswith("~/"):
        value = str(in_home(value))
    try:
        return hydra_value(value)
    except TypeError as error:
        raise ZooError(
            f"{key}: {error}; valid: numbers, texts, None, and lists and dicts of them. "
            "Classes of yours are named in a config: configs/model/mine.yaml with _target_: my_module.MyModel"
        ) from None


def run(overrides: list[str]) -> Run:
    """Execute the run of these overrides."""
    from zoo.pretrained.loading import load
    from zoo.train import train

    cfg, said, subdir = command(overrides)
    new = missing_folders(said.run_dir)
    said.run_dir.mkdir(parents=True, exist_ok=True)
    if subdir:  # what Hydra keeps of a command
        folder = said.run_dir / subdir
        folder.mkdir(exist_ok=True)
        OmegaConf.save(cfg, folder / "config.yaml")
        OmegaConf.save(OmegaConf.create(overrides), folder / "overrides.yaml")
    record = Record()
    try:
        result = train(cfg, said, [record])
    except Exception:
        remove_unused(new)
        raise
    metrics = {name.partition("/")[2]: value for name, value in (result.metrics or result.validated).items()}
    model = load(result.checkpoint, modules_of(cfg)) if result.checkpoint else None
    return Run(metrics, record.history, model, said.run_dir, result.checkpoint)


def modules_of(cfg: DictConfig) -> list[str]:
    """The user's own module that holds the model, which the caller has named and so trusts."""
    target = OmegaConf.select(cfg, "model._target_")
    return [] if target is None or target.startswith(("zoo.", "torch.")) else [target.rpartition(".")[0]]


def command(overrides: list[str]) -> tuple[DictConfig, Said, str | None]:
    """The config of these overrides, what is said to the run, and the name of the subfolder in which both are kept."""
    own = own_configs()
    allow_said(overrides, own)
    cfg = composed(overrides)
    hydra: Any = HydraConfig.get()
    with read_write(hydra), read_write(cfg), open_dict(cfg):
        run_dir, subdir = Path(hydra.run.dir).absolute(), hydra.output_subdir
        hydra.runtime.output_dir = str(run_dir)
        del cfg["hydra"]
    if cfg.resume is None:  # for a resumed run the values are those of its checkpoint
        OmegaConf.resolve(cfg)
    return cfg, Said(overrides, run_dir, [CONFIGS, *own], own[0] if own else None), subdir
