"""Compose a run's config outside of Hydra's command, without changing the state of Hydra in this process."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from omegaconf import DictConfig

from zoo.config.overrides import hydra_value
from zoo.paths import CONFIGS
from zoo.run.resolvers import register_resolvers

running = threading.RLock()  # Hydra and the random number generators have a state that all threads share


def own_configs() -> list[Path]:
    """The folder of the user's own configs in the current folder, if there is one."""
    own = Path("configs").resolve()
    return [own] if own.is_dir() and own != CONFIGS else []


def composed(overrides: Sequence[str]) -> DictConfig:
    """The config that the command composes from these overrides, with Hydra's own under ``hydra``.

    It is called within ``hydra_of_its_own``, where the config's interpolations of Hydra's values are resolved too.
    """
    from hydra import compose, initialize_config_dir

    register_resolvers()
    own = [hydra_value(f"file://{folder}") for folder in own_configs()]
    with initialize_config_dir(str(CONFIGS), "train", version_base="1.3"):
        found = compose("train", [*(f"hydra.searchpath=[{path}]" for path in own), *overrides], True)
    HydraConfig.instance().set_config(found)
    return found


@contextmanager
def hydra_of_its_own() -> Iterator[None]:
    """Give the block a state of Hydra of its own, and the caller's back at the end.

    A run's config refers to Hydra's, and the caller may be a Hydra application itself. Only one thread at a time may be
    in such a block.
    """
    instances: Any = Singleton._instances
    with running:
        kept: Mapping[type, Any] = {kind: instances.pop(kind, None) for kind in (GlobalHydra, HydraConfig)}
        try:
            yield
        finally:
            for kind, instance in kept.items():
                instances.pop(kind, None)
                if instance is not None:
                    instances[kind] = instance
