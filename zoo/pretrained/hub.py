"""Torchvision's weights, from torch's cache or its host; what comes from either is what its name says."""

import hashlib
import pickle
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.config.registry import list_models, suggest
from zoo.data.decoded import total_memory
from zoo.data.fetch import unreachable
from zoo.data.integrity import read_file
from zoo.errors import ZooError
from zoo.pretrained.reading import read_checkpoint, tensors


def fetch_torchvision(name: str) -> dict[str, Tensor]:
    """Torchvision's best weights of a model for ImageNet, from torch's cache, or downloaded there and verified."""
    from torchvision import models

    known = [model for model in models.list_models(module=models) if model in list_models()]
    if name not in known:
        raise suggest(name, known, "model of torchvision's that the zoo has too")
    known_weights: Any = models.get_model_weights(name)
    weights = known_weights.DEFAULT
    file = weights.url.rpartition("/")[2]
    cached = Path(torch.hub.get_dir()) / "checkpoints" / file
    if cached.exists():
        return read_cached(cached)
    if (reason := unreachable(weights.url)) is None:
        try:
            return dict(weights.get_state_dict(progress=True, check_hash=True, weights_only=True))
        except (OSError, HTTPException, RuntimeError, pickle.UnpicklingError) as error:  # RuntimeError: another hash
            reason = str(error)
    raise ZooError(
        f"torchvision:{name}: {weights.url} could not be had ({reason}). Where you can reach it, download it, and give "
        f"the file: init.weights=PATH/{file}"
    )


def read_cached(path: Path) -> dict[str, Tensor]:
    """The tensors of a file in torch's cache, whose name has its sha256's beginning: ``resnet18-f37072fd.pth``.

    Torch compares the two when it downloads a file, and never again.

    Raises:
        ZooError: a file of another content than its name says, or no regular one.
    """
    begins = path.stem.rpartition("-")[2]
    try:
        found = hashlib.sha256(read_file(path, total_memory() or 10**15, "of this machine's memory")).hexdigest()
    except OSError as error:
        raise ZooError(f"{path} cannot be read: {error.strerror or error}") from None
    if not found.startswith(begins):
        raise ZooError(
            f"{path} is damaged: its sha256 begins with {found[: len(begins)]}, not {begins}, as its name says; delete "
            f"it, and run again to download it anew"
        )
    return tensors(read_checkpoint(path), path)
