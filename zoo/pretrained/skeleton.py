"""Models of configs that came with a file; and their skeletons, which take no memory whatever sizes are asked for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from zoo.config.build import build, check_foreign
from zoo.config.plain import check_bounded
from zoo.errors import ZooError

VALUES = 10_000  # of a model's config, at most; each becomes a node of OmegaConf's


def built(config: dict[str, Any], trust: Sequence[str]) -> nn.Module:
    """A model of a config that came with a file."""
    check_bounded(config, "the config of the file's model", VALUES)
    model = build(config, "model", trust)
    if not isinstance(model, nn.Module):
        raise ZooError(f"model={config['_target_']}: it makes a {type(model).__name__}, not a model")
    return model


def skeleton(config: dict[str, Any], tensors: int, trust: Sequence[str]) -> nn.Module | None:
    """The model of a file's config on the meta device, where tensors have shapes and take no memory.

    A config of a few bytes can ask for layers of any size and number: what it asks for is held against the file's
    weights before it is made. None for a class of the user's own, which need not work there, and is trusted.

    Args:
        tensors: how many the file has.

    Raises:
        ZooError: as ``built``; many more layers than that.
    """
    target = str(config.get("_target_", ""))
    if not target.startswith(("zoo.", "torch.nn.")):
        return None
    check_foreign(config, trust)  # imports what it names: a tensor that a module makes at its import must be a real one
    with at_most(1000 + 10 * tensors), torch.device("meta"):
        return built(config, trust)


@contextmanager
def at_most(parts: int) -> Iterator[None]:
    """Raise a ``ZooError`` where more layers and parameters than that are made."""
    made = 0

    def count(*_: Any) -> None:
        nonlocal made
        made += 1
        if made > parts:
            raise ZooError(
                f"the file's config asks for a model of more than {parts:,} layers and parameters, which "
                f"are many more than its weights"
            )

    registered = nn.modules.module.register_module_parameter_registration_hook(count)
    added = nn.modules.module.register_module_module_registration_hook(count)
    try:
        yield
    finally:
        registered.remove()
        added.remove()
