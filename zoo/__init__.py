"""A reference model zoo for a deep-learning lecture: ``create`` a model, ``load`` a trained one, ``fit`` one.

Importing this package does not import torch; the first call does.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Card", "Loaded", "Run", "ZooError", "create", "fit", "list_models", "list_weights", "load"]

if TYPE_CHECKING:
    from zoo.config.registry import list_models
    from zoo.contracts import Loaded
    from zoo.errors import ZooError
    from zoo.pretrained.card import Card, list_weights
    from zoo.pretrained.loading import create, load
    from zoo.run.fit import Run, fit

# No name here may be that of a submodule, such as evaluate: importing zoo.evaluate would replace the function.
_HOMES = {
    "Card": "zoo.pretrained.card",
    "Loaded": "zoo.contracts",
    "Run": "zoo.run.fit",
    "ZooError": "zoo.errors",
    "create": "zoo.pretrained.loading",
    "fit": "zoo.run.fit",
    "list_models": "zoo.config.registry",
    "list_weights": "zoo.pretrained.card",
    "load": "zoo.pretrained.loading",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
