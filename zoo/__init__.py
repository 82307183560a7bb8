"""A reference model zoo for a deep-learning lecture: ``create`` a model, ``load`` a trained one.

Importing this package imports no torch; the first call does.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Card", "ZooError", "create", "list_models", "list_weights", "load"]

if TYPE_CHECKING:
    from zoo.card import Card, list_weights
    from zoo.errors import ZooError
    from zoo.pretrained import create, load
    from zoo.registry import list_models

# No name of a module here, as in zoo.evaluate.evaluate: once imported, the module would take the function's place.
_HOMES = {
    "Card": "zoo.card",
    "ZooError": "zoo.errors",
    "create": "zoo.pretrained",
    "list_models": "zoo.registry",
    "list_weights": "zoo.card",
    "load": "zoo.pretrained",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
