"""Measuring a trained model again on the official test split, and holding it against its card."""

import logging
import warnings
from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import Any

from lightning import Trainer
from torch import nn

from zoo.build import build
from zoo.card import Card
from zoo.errors import ZooError
from zoo.pretrained import load

# Another CPU or BLAS may turn a few of 10,000 images; a calibration error moves by more, as images change their bin.
TOLERANCE = {"accuracy": 5e-4, "accuracy_plain": 5e-4, "top5": 5e-4, "f1": 5e-4, "calibration_error": 5e-3}
RELATIVE = 0.02  # of all else: losses, perplexity


def evaluate(
    source: str | Path, root: str | None = None, trust: Sequence[str] = ()
) -> tuple[Card, dict[str, float], dict[str, float]]:
    """Measure a shipped weight or a checkpoint.

    Args:
        root: the folder of the data; None is the usual one.
        trust: as in ``zoo.load``.

    Returns:
        Its card, the metrics now, and those of the card's metrics that differ by more than the tolerance or that are
        not measured any more (NaN). The card of a run that was not tested has none to compare.

    Raises:
        ZooError: as ``load``; data that cannot be had.
    """
    model: Any = load(source, trust)
    card: Card = model.card
    metrics = measure(model, card, root, trust)
    said = {name: value for name, value in card.metrics.items() if "/" not in name}  # val/… is not of the test split
    off = {
        name: metrics.get(name, nan)
        for name, value in said.items()
        if not abs(metrics.get(name, nan) - value) <= TOLERANCE.get(name, RELATIVE * abs(value))
    }
    return card, metrics, off


def measure(model: nn.Module, card: Card, root: str | None = None, trust: Sequence[str] = ()) -> dict[str, float]:
    """The test metrics of a model, by the task and on the data of its card: what a run's own test measures."""
    tokenizer: Any = model.preprocess
    own = {"tokenizer": tokenizer} if "tokenizer" in card.data else {}  # whatever the text is now
    return test(model, card, build(card.data, "data", trust, root=root, **own), trust)


def measure_text(model: nn.Module, card: Card, path: Path, trust: Sequence[str] = ()) -> dict[str, float]:
    """The metrics of a language model on a whole file of text, every token predicted once.

    Raises:
        ZooError: a model of something else; a file that cannot be read, or is no UTF-8.
    """
    from zoo.data.corpora import read_text
    from zoo.data.text import TextData

    tokenizer: Any = model.preprocess
    if not hasattr(tokenizer, "encode"):
        raise ZooError(f"{card.name} is no language model, so it cannot be measured on a text")
    kept = {key: card.data[key] for key in ("level", "seq_len", "eval_batch_size", "eval_context") if key in card.data}
    data = TextData(None, len(tokenizer.vocabulary), file=str(path), tokenizer=tokenizer, **kept)
    data.put({"train": "", "val": "", "test": read_text(path)})
    return test(model, card, data, trust)


def test(model: nn.Module, card: Card, data: Any, trust: Sequence[str]) -> dict[str, float]:
    """The test metrics by the task of the card."""
    task = build(card.task, "task", trust, _partial_=True)(model=model)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Lightning's, about loaders; there is nothing to tune here
        trainer = Trainer(
            devices=1,  # on several, some images would be measured twice to fill the last batch
            logger=False,
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        trainer.test(task, datamodule=data, verbose=False)
    return {name.removeprefix("test/"): float(value) for name, value in trainer.callback_metrics.items()}
