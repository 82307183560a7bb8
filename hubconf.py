"""The zoo in ``torch.hub``: ``torch.hub.load(folder or "owner/name", "lenet5_mnist")`` gives trained weights, and
``torch.hub.load(…, "resnet20", num_classes=7)`` an untrained model.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import zoo

# what torch.hub looks for before it calls anything here; torch.hub installs nothing itself
dependencies = [
    "torch", "torchvision", "lightning", "hydra", "omegaconf", "torchmetrics", "safetensors", "PIL", "rich", "filelock",
]  # fmt: skip


def entry(function: Callable[..., Any], name: str, told: str) -> Callable[..., Any]:
    """A function for ``torch.hub``, whose docstring ``torch.hub.help`` prints."""
    found = partial(function, name)
    found.__doc__ = told
    return found


globals().update({name: entry(zoo.create, name, f"The untrained model {name}.") for name in zoo.list_models()})
for _path in zoo.list_weights():
    _card = zoo.Card.read(zoo.paths.WEIGHTS / f"{_path}.json")
    globals()[_path] = entry(zoo.load, _path, f"{_card.title}: {_card.headline()} on the test set.")
