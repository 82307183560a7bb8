"""What the user asked of a run, from the command line or from Python."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from zoo.config.overrides import config_dirs
from zoo.paths import CONFIGS


class Said(NamedTuple):
    """What a run is told besides its config.

    Attributes:
        overrides: the overrides in Hydra's grammar, such as "optimizer.lr=0.1".
        run_dir: the folder that the run writes to.
        folders: the config folders that were read: the zoo's, and the user's own.
        config_dir: the folder that ``--config-dir`` named, or ./configs, which stands for it; None if there is none.
    """

    overrides: Sequence[str]
    run_dir: Path
    folders: Sequence[Path]
    config_dir: Path | None = None


def said_to_hydra() -> Said:
    """What was said on the command line of the running Hydra application."""
    from hydra.core.hydra_config import HydraConfig

    config = HydraConfig.get()
    named = [Path(folder) for folder in config_dirs(sys.argv)[-1:]]
    said = list(config.overrides.task), Path(config.runtime.output_dir), config_folders()
    return Said(*said, named[0] if named else None)


def config_folders() -> list[Path]:
    """The config folders that this command reads: the zoo's, and the user's own."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return [CONFIGS, Path("configs")]
    sources = [Path(s.path.removeprefix("file://")) for s in HydraConfig.get().runtime.config_sources if s.path]
    return list(dict.fromkeys([CONFIGS, *(path for path in sources if path.is_dir())]))
