"""Torchvision's weights, from torch's cache or downloaded; both are verified by the checksum in the file name."""

import hashlib
import pickle
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.config.files import read_file
from zoo.config.registry import list_models, suggest
from zoo.data.decoded import total_memory
from zoo.data.fetch import unreachable
from zoo.errors import ZooError
from zoo.pretrained.reading import read_checkpoint, tensors


def fetch_torchvision(name: str) -> dict[str, Tensor]:
    """Torchvision's best ImageNet weights of a model, from torch's cache, or downloaded there and verified.

    Raises:
        ZooError: the zoo or torchvision has no such model; the download failed, or the file is damaged.
    """
    from torchvision import models

    known = [model for model in models.list_models(module=models) if model in list_models()]
    if name not in known:
        raise suggest(name, known, "torchvision model that the zoo has too")
    known_weights: Any = models.get_model_weights(name)
    weights = known_weights.DEFAULT
    file = weights.url.rpartition("/")[2]
    cached = Path(torch.hub.get_dir()) / "checkpoints" / file
    if cached.exists():
        return read_cached(cached)
    if (reason := unreachable(weights.url)) is None:
        try:
            return dict(weights.get_state_dict(progress=True, check_hash=True, weights_only=True))
        except (OSError, HTTPException, RuntimeError, pickle.UnpicklingError) as error:  # RuntimeError: wrong checksum
            reason = str(error)
    raise ZooError(
        f"torchvision:{name}: {weights.url} could not be downloaded ({reason}). Download it on a machine that reaches "
        f"it, and give the file: init.weights=PATH/{file}"
    )


def read_cached(path: Path) -> dict[str, Tensor]:
    """The tensors of a file in torch's cache, whose name ends in the first digits of its sha256, as in
    ``resnet18-f37072fd.pth``. The two are compared here, as torch does so only when it downloads a file.

    Raises:
        ZooError: the content does not have the sha256 that the name says, or it is not a regular file.
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
