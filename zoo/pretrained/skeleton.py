"""Build the model of a config that came with a file, or its skeleton, which takes no memory whatever its sizes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from zoo.config.build import build, check_foreign
from zoo.config.plain import check_bounded
from zoo.errors import ZooError

VALUES = 10_000  # the most values in a model's config; OmegaConf makes a node for each


def built(config: dict[str, Any], trust: Sequence[str]) -> nn.Module:
    """The model of a config that came with a file; a ``ZooError`` if it is not a model."""
    check_bounded(config, "the config of the file's model", VALUES)
    model = build(config, "model", trust)
    if not isinstance(model, nn.Module):
        raise ZooError(f"model={config['_target_']}: this gives a {type(model).__name__}, not a model")
    return model


def skeleton(config: dict[str, Any], tensors: int, trust: Sequence[str]) -> nn.Module | None:
    """The model of a file's config on the meta device, where tensors have shapes but take no memory.

    A config of a few bytes can ask for any number of layers of any size, so it is compared with the file's weights
    before the model is built. None for a class that is neither the zoo's nor torch's: the user trusts it, and it may
    not work on the meta device.

    Args:
        tensors: the number of tensors in the file.

    Raises:
        ZooError: as ``built``; the config asks for many more layers than the file has tensors.
    """
    target = str(config.get("_target_", ""))
    if not target.startswith(("zoo.", "torch.nn.")):
        return None
    check_foreign(config, trust)  # imports the modules outside the meta device, so that tensors they create are real
    with at_most(1000 + 10 * tensors), torch.device("meta"):
        return built(config, trust)


@contextmanager
def at_most(parts: int) -> Iterator[None]:
    """Raise a ``ZooError`` if more than ``parts`` layers and parameters are created in the block."""
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
