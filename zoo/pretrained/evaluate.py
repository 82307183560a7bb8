"""Measuring a trained model again on the official test split, and holding it against its card.

The whole split says how good a weight is, and may take minutes. Its first few examples are measured in a second, and
say whether the weight, its preprocessing and its data are still what they were (``--quick``, and the default tests).
"""

import logging
import time
import warnings
from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from torch import nn

from zoo.config.build import build
from zoo.data.images import ImageData
from zoo.data.tokens import Tokenizer
from zoo.errors import ZooError
from zoo.pretrained.card import Card
from zoo.pretrained.loading import load

# Another CPU or BLAS may turn a few of 10,000 images; a calibration error moves by more, as images change their bin.
TOLERANCE = {"accuracy": 5e-4, "accuracy_plain": 5e-4, "top5": 5e-4, "f1": 5e-4, "calibration_error": 5e-3}
RELATIVE = 0.02  # of all else: losses, perplexity

# The quick figures. A rate may differ by as many examples as another processor turns; one that turns changes the f1 of
# two classes, and may change its bin of the calibration error; precision and recall compare every example with every
# other. All else is smooth in the outputs: without oneDNN it differs by less than 2e-6 of itself, and by 1.2e-3 at most
# where factors are rounded to TF32, as on GPUs; an error of a tenth in each weight changes it by 9e-3 at least.
TURNED = {
    "accuracy": 2.5, "accuracy_plain": 2.5, "top5": 2.5, "agreement": 2.5, "f1": 5.0, "calibration_error": 5.0,
    "precision": 10.0, "recall": 10.0,
}  # fmt: skip
QUICK_RELATIVE = 0.002
# What a quick measurement leaves out: figures of the data alone, those that one sample of a few would tip, and e to the
# power of a loss that is there itself.
NOT_QUICK = ("pca_loss", "fid_floor", "unknown", "modes", "reverse_kl", "perplexity_per_word")
QUICK_SIZES = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)  # examples
QUICK_SECONDS = 0.4  # of one core, beside reading the data; a size that takes less is followed by the next


def evaluate(
    source: str | Path, root: str | None = None, trust: Sequence[str] = (), quick: bool = False
) -> tuple[Card, dict[str, float], dict[str, float]]:
    """Measure a shipped weight or a checkpoint.

    Args:
        root: the folder of the data; None is the usual one.
        trust: as in ``zoo.load``.
        quick: measure the first examples alone, and compare with the card's ``quick_metrics``.

    Returns:
        Its card, the metrics now, and those of the card's metrics that differ by more than the tolerance or that are
        not measured any more (NaN). The card of a run that was not tested has none to compare.

    Raises:
        ZooError: as ``load``; data that cannot be had; a card without quick figures.
    """
    model: Any = load(source, trust)
    card: Card = model.card
    if not quick:
        metrics = measure(model, card, root, trust)
        said = {name: value for name, value in card.metrics.items() if "/" not in name}  # val/… is not of the test
        allowed = {name: TOLERANCE.get(name, RELATIVE * abs(value)) for name, value in said.items()}
    else:
        if card.quick_examples < 1 or not card.quick_metrics:
            raise ZooError(
                f"{source}: its card has no figures of the first test examples, as those of shipped weights have; "
                f"measure it on the whole test split, without --quick"
            )
        data, _ = data_of(model, card, root, trust).first(card.quick_examples)
        metrics, said = without(NOT_QUICK, test(model, card, data, trust)), card.quick_metrics
        allowed = {name: quick_tolerance(name, value, card.quick_examples) for name, value in said.items()}
    off = {
        name: metrics.get(name, nan) for name in said if not abs(metrics.get(name, nan) - said[name]) <= allowed[name]
    }
    return card, metrics, off


def quick_tolerance(name: str, value: float, examples: int) -> float:
    """How much a quick figure may differ from the card's."""
    return TURNED[name] / examples if name in TURNED else QUICK_RELATIVE * abs(value)


def without(names: Sequence[str], metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name not in names}


def measure(model: nn.Module, card: Card, root: str | None = None, trust: Sequence[str] = ()) -> dict[str, float]:
    """The test metrics of a model, by the task and on the data of its card: what a run's own test measures."""
    return test(model, card, data_of(model, card, root, trust), trust)


def measure_quick(model: nn.Module, card: Card, root: str | None = None) -> tuple[int, dict[str, float]]:
    """For a card: the first size in ``QUICK_SIZES`` that takes ``QUICK_SECONDS`` on one core, or the largest that there
    is; and what the test gives on so many of the first examples.
    """
    data, threads = data_of(model, card, root), torch.get_num_threads()
    torch.set_num_threads(1)
    examples, metrics = 0, {}
    try:
        for size in QUICK_SIZES:
            few, examples = data.first(size)
            start = time.process_time()
            metrics = test(model, card, few, ())
            if time.process_time() - start > QUICK_SECONDS or examples < size:  # slow enough, or that was all
                break
    finally:
        torch.set_num_threads(threads)
    return examples, without(NOT_QUICK, metrics)


def data_of(model: nn.Module, card: Card, root: str | None = None, trust: Sequence[str] = ()) -> Any:
    """The data of a card, ready to be measured on."""
    tokenizer: Any = model.preprocess
    own = {"tokenizer": tokenizer} if "tokenizer" in card.data else {}  # whatever the text is now
    data = build(card.data, "data", trust, root=root, **own)
    data.prepare_data()
    data.setup("test")
    if isinstance(data, ImageData):
        images, _ = data.splits["test"]
        if not torch.equal(model.preprocess(images[:4]), data.sample(4, "test")[0]):  # type: ignore[operator]
            raise ZooError(f"{card.name}: the preprocessing on its card is not that of its data")
    return data


def measure_text(model: nn.Module, card: Card, path: Path, trust: Sequence[str] = ()) -> dict[str, float]:
    """The metrics of a language model on a whole file of text, every token predicted once.

    Raises:
        ZooError: a model of something else; a file that cannot be read, or is no UTF-8.
    """
    from zoo.data.corpora import read_text
    from zoo.data.text import TextData

    tokenizer: Any = model.preprocess
    if not isinstance(tokenizer, Tokenizer):
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
