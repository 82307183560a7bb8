"""Measuring a trained model again on the official test split, and holding it against its card."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import nn
from torchmetrics import MetricCollection

from zoo.card import Card
from zoo.errors import ZooError
from zoo.paths import CONFIGS
from zoo.pretrained import load

TOLERANCE = 5e-4  # another CPU or BLAS may turn a few of 10,000 images


def evaluate(
    source: str | Path, root: str | None = None, trust: Sequence[str] = ()
) -> tuple[Card, dict[str, float], dict[str, float]]:
    """Measure a shipped weight or a checkpoint.

    Returns:
        Its card, the metrics now, and those metrics of the card that differ by more than ``TOLERANCE``.

    Raises:
        ZooError: as ``load``; data that cannot be had.
    """
    model: Any = load(source, trust)
    card: Card = model.card
    data = test_data(card, root)
    metrics = measure(model, data)
    off = {name: value for name, value in card.metrics.items() if name in metrics and differs(name, value, metrics)}
    return card, metrics, off


def differs(name: str, value: float, metrics: dict[str, float]) -> bool:
    # a calibration error moves by more than a share of right answers
    return abs(metrics[name] - value) > TOLERANCE * (10 if name == "calibration_error" else 1)


def test_data(card: Card, root: str | None = None) -> Any:
    """The data module of a card, with the card's preprocessing."""
    from zoo.data.images import ImageData

    path = CONFIGS / "data" / f"{card.data}.yaml"
    if not path.exists():
        raise ZooError(f"the card's data set {card.data!r} is not one of this zoo's")
    config: Any = OmegaConf.load(path)
    data = ImageData(
        card.data, config.num_classes, config.in_channels, config.image_size, card.preprocess["mean"],
        card.preprocess["std"], root=root,
    )
    data.setup("test")
    return data


@torch.inference_mode()
def measure(model: nn.Module, data: Any) -> dict[str, float]:
    """The classification task's test metrics of a model in eval mode."""
    from zoo.tasks.classify import Classify

    task = Classify(model, data.num_classes, torch.optim.SGD)
    metrics: MetricCollection = task.test_metrics
    for images, labels in data.test_dataloader():
        metrics.update(model(data.preprocess(images)), labels)
    return {name.removeprefix("test/"): float(value) for name, value in metrics.compute().items()}
