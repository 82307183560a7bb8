"""What happens before a run begins: its settings are checked, and a run that never begins leaves no folder behind."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import InterpolationKeyError

from zoo.config.checks import check_config
from zoo.config.foreign import nodes
from zoo.config.own import allow
from zoo.run.explain import say
from zoo.run.guard import failures, fast_precision


def plain_config(cfg: DictConfig) -> dict[str, Any]:
    """A composed config as plain values: interpolations are resolved, and ``trainer.precision=auto`` is chosen."""
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    if config["trainer"].get("precision") == "auto":
        config["trainer"]["precision"] = fast_precision(config["trainer"].get("accelerator", "auto"))
    return config


def allow_named(config: dict[str, Any]) -> None:
    """Allow the modules that a composed config names as ``_target_`` to be found in the current folder."""
    allow(str(node["_target_"]) for _, node in nodes(config) if "_target_" in node)


# --- a run's folder ---------------------------------------------------------------------------------------------------


class NewFolder(Callback):
    """Removes the folder that Hydra made for a run which failed before it wrote anything of its own."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        before = HydraConfig.instance().cfg
        HydraConfig.instance().set_config(config)  # the folder's name is made of Hydra's values
        self.new = missing_folders(Path(str(config.hydra.run.dir)))
        HydraConfig.instance().cfg = before

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        if failures or kwargs["job_return"].status.name == "FAILED":
            remove_unused(self.new)


def missing_folders(folder: Path) -> list[Path]:
    """A folder and those above it that do not exist yet, the innermost first."""
    return [path for path in (folder.absolute(), *folder.absolute().parents) if not path.exists()]


def remove_unused(new: Sequence[Path]) -> None:
    """Remove a run's folder if it holds nothing but what Hydra keeps of the command, and then empty folders above it.

    Args:
        new: the folders that did not exist before the run, the run's own first; see ``missing_folders``.
    """
    if not new or not new[0].is_dir():
        return
    files = (path.relative_to(new[0]) for path in new[0].rglob("*") if not path.is_dir())
    if any(path.parts[0] not in (".hydra", ".lock") for path in files):
        return
    try:
        shutil.rmtree(new[0])
        for folder in new[1:]:
            folder.rmdir()
    except OSError:  # another run has begun to write there
        return


# --- a sweep ----------------------------------------------------------------------------------------------------------


def check_sweep(config: DictConfig) -> None:
    """Check the settings of a sweep's runs before the first of them, as far as this needs no data.

    Each value is checked once, together with the first values of the other settings: so the time grows with their
    number, not with that of their combinations. If one is not valid, the command ends with its message.

    Args:
        config: the config of the sweep, with Hydra's own.
    """
    loader = GlobalHydra.instance().config_loader()
    said = OverridesParser.create(config_loader=loader).parse_overrides(list(config.hydra.overrides.task))
    for overrides in one_at_a_time([values(override) for override in said]):
        cfg = loader.load_sweep_config(config, overrides)
        with read_write(cfg), open_dict(cfg):
            cfg.hydra.mode, cfg.hydra.job.num, cfg.hydra.job.id = RunMode.MULTIRUN, 0, "0"
            HydraConfig.instance().set_config(cfg)
            del cfg["hydra"]
        if cfg.resume is not None:  # its settings are those of its checkpoint
            continue
        try:
            found = plain_config(cfg)
        except InterpolationKeyError as error:
            refuse(error)
        except Exception:  # data or environment variables may be on the machines of the runs alone
            continue
        allow_named(found)
        try:
            check_config(found)
        except Exception as error:
            refuse(error)
    HydraConfig.instance().set_config(config)


def refuse(error: Exception) -> None:
    """End the command with an error; Hydra would turn one that is raised in its callbacks into a warning."""
    say(error)
    sys.exit(1)


def values(override: Override) -> list[str]:
    """The values of an override as overrides of single runs; of an interval, its two ends."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}"]
    if override.is_discrete_sweep():
        return [f"{key}={value}" for value in override.sweep_string_iterator()]
    sweep = override.value()
    return [f"{key}={end}" for end in (sweep.start, sweep.end)] if isinstance(sweep, IntervalSweep) else []


def one_at_a_time(settings: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """The first value of every setting together, then each further value with the first ones of the others."""
    settings = [values for values in settings if values]
    first = [values[0] for values in settings]
    yield first
    for i, values in enumerate(settings):
        for value in values[1:]:
            yield [*first[:i], value, *first[i + 1 :]]
