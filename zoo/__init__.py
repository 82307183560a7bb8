"""A reference model zoo for a deep-learning lecture: ``create`` a model, ``load`` a trained one.

Importing this package imports no torch; the first call does.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Card", "create", "evaluate", "features", "list_models", "list_weights", "load"]

if TYPE_CHECKING:
    from zoo.evaluate import evaluate
    from zoo.features import features
    from zoo.pretrained import Card, create, list_models, list_weights, load

_HOMES = {"evaluate": "zoo.evaluate", "features": "zoo.features"}


def __getattr__(name: str) -> Any:
    if name in __all__:
        from importlib import import_module

        return getattr(import_module(_HOMES.get(name, "zoo.pretrained")), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")
