"""Measure a trained model again on the official test split, and compare the metrics with its card.

Measuring on the whole split tells how good the weights are, and may take minutes. Measuring on its first few examples
takes a second, and tells whether the weights, their preprocessing and their data are unchanged (``--quick``, and the
default tests).
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
from zoo.contracts import OfSpeech, Thorough
from zoo.data.images import ImageData
from zoo.data.tokens import Tokenizer
from zoo.errors import ZooError
from zoo.pretrained.card import Card
from zoo.pretrained.loading import load

# Another CPU or BLAS may change the predictions for a few of 10,000 images. The calibration error changes by more, as
# images move to another bin; a word or two of a few hundred may be another.
TOLERANCE = {
    "accuracy": 5e-4, "accuracy_plain": 5e-4, "top5": 5e-4, "f1": 5e-4, "calibration_error": 5e-3, "wer": 4e-3,
    "wer_beam": 4e-3, "cer": 2e-3, "cer_beam": 2e-3, "short": 1e-6,
}  # fmt: skip
RELATIVE = 0.02  # the relative tolerance of all other metrics, such as losses and perplexity

# Tolerances of the quick metrics. Rates: the number of examples whose prediction may change on another processor. One
# such change affects the f1 of two classes, and the calibration error by a change of bin; precision and recall compare
# every example with every other. All other metrics are smooth functions of the outputs: they change by a relative 2e-6
# at most without oneDNN and 1.2e-3 at most with TF32 multiplications, as on GPUs, but by at least 9e-3 if each weight
# is wrong by a tenth.
TURNED = {
    "accuracy": 2.5, "accuracy_plain": 2.5, "top5": 2.5, "agreement": 2.5, "f1": 5.0, "calibration_error": 5.0,
    "precision": 10.0, "recall": 10.0, "wer": 2.5, "cer": 2.5, "wer_beam": 2.5, "cer_beam": 2.5, "short": 0.5,
}  # fmt: skip
QUICK_RELATIVE = 0.002
# Metrics left out of a quick measurement: those of the data only, those that a single sample can change a lot, and
# perplexity, the exponential of a loss that is measured too.
NOT_QUICK = (
    "pca_loss",
    "fid_floor",
    "unknown",
    "modes",
    "reverse_kl",
    "perplexity_per_word",
    "bleu",
    "bleu_lower",
    "chrf",
)
QUICK_SIZES = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)  # examples
QUICK_SECONDS = 0.4  # on one core, without reading the data; below this the next larger size is tried


def evaluate(
    source: str | Path, root: str | None = None, trust: Sequence[str] = (), quick: bool = False
) -> tuple[Card, dict[str, float], dict[str, float]]:
    """Measure shipped weights or a checkpoint, and compare with the card.

    Args:
        source: a shipped name or a file, as in ``zoo.load``.
        root: the folder of the data; None for the default one.
        trust: as in ``zoo.load``.
        quick: measure the first examples only, and compare with the card's ``quick_metrics``.

    Returns:
        The card, the metrics measured now, and the new values of those card metrics that differ by more than the
        tolerance (NaN for one that is no longer measured). If a run was not tested, its card has no metrics to compare.

    Raises:
        ZooError: as ``load``; the data are not available; ``quick`` is set and the card has no quick metrics.
    """
    model: Any = load(source, trust)
    card: Card = model.card
    if not quick:
        metrics = measure(model, card, root, trust)
        said = {name: value for name, value in card.metrics.items() if "/" not in name}  # not val/…
        allowed = {name: TOLERANCE.get(name, RELATIVE * abs(value)) for name, value in said.items()}
    else:
        if card.quick_examples < 1 or not card.quick_metrics:
            raise ZooError(
                f"{source}: its card has no figures of the first test examples, which only cards of shipped weights "
                f"have; measure it on the whole test split, without --quick"
            )
        data, _ = data_of(model, card, root, trust).first(card.quick_examples)
        metrics, said = without(NOT_QUICK, test(model, card, data, trust, True)), card.quick_metrics
        allowed = {name: quick_tolerance(name, value, card.quick_examples) for name, value in said.items()}
    off = {
        name: metrics.get(name, nan) for name in said if not abs(metrics.get(name, nan) - said[name]) <= allowed[name]
    }
    return card, metrics, off


def quick_tolerance(name: str, value: float, examples: int) -> float:
    """How much a quick metric may differ from the card's value."""
    return TURNED[name] / examples if name in TURNED else QUICK_RELATIVE * abs(value)


def without(names: Sequence[str], metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name not in names}


def measure(model: nn.Module, card: Card, root: str | None = None, trust: Sequence[str] = ()) -> dict[str, float]:
    """The test metrics of a model with the task and data of its card, as a run's own test measures them."""
    return test(model, card, data_of(model, card, root, trust), trust, False)


def measure_quick(model: nn.Module, card: Card, root: str | None = None) -> tuple[int, dict[str, float]]:
    """The ``quick_examples`` and ``quick_metrics`` of a card: the first size in ``QUICK_SIZES`` whose test takes longer
    than ``QUICK_SECONDS`` on one core, or the largest possible, and the metrics on that many examples.
    """
    data, threads = data_of(model, card, root), torch.get_num_threads()
    torch.set_num_threads(1)
    examples, metrics = 0, {}
    try:
        for size in QUICK_SIZES:
            few, examples = data.first(size)
            start = time.process_time()
            metrics = test(model, card, few, (), True)
            if time.process_time() - start > QUICK_SECONDS or examples < size:  # slow enough, or no more examples
                break
    finally:
        torch.set_num_threads(threads)
    return examples, without(NOT_QUICK, metrics)


def data_of(model: nn.Module, card: Card, root: str | None = None, trust: Sequence[str] = ()) -> Any:
    """The data of a card, with the test split set up."""
    tokenizer: Any = model.preprocess
    own = {"tokenizer": tokenizer} if "tokenizer" in card.data else {}  # the text may have changed since training
    data = build(card.data, "data", trust, root=root, **own)
    data.prepare_data()
    data.setup("test")
    if isinstance(data, ImageData):
        images, _ = data.splits["test"]
        if not torch.equal(model.preprocess(images[:4]), data.sample(4, "test")[0]):  # type: ignore[operator]
            raise ZooError(f"{card.name}: the preprocessing on its card is not that of its data")
    if isinstance(data, OfSpeech):
        prepared: Any = model.preprocess
        if data.preprocess.transcripts.vocabulary != prepared.transcripts.vocabulary:
            raise ZooError(
                f"{card.name}: the transcripts have other tokens than those on its card; give those it knows"
            )
        data.preprocess = prepared  # which also has the training transcripts, if only the test part is here
    return data


def measure_text(model: nn.Module, card: Card, path: Path, trust: Sequence[str] = ()) -> dict[str, float]:
    """The metrics of a language model on a whole file of text, every token predicted once.

    Raises:
        ZooError: the model is no language model; the file cannot be read, or is not UTF-8.
    """
    from zoo.data.corpora import read_text
    from zoo.data.text import TextData

    tokenizer: Any = model.preprocess
    if not isinstance(tokenizer, Tokenizer):
        raise ZooError(f"{card.name} is no language model, so it cannot be measured on a text")
    kept = {key: card.data[key] for key in ("level", "seq_len", "eval_batch_size", "eval_context") if key in card.data}
    data = TextData(None, len(tokenizer.vocabulary), file=str(path), tokenizer=tokenizer, **kept)
    data.put({"train": "", "val": "", "test": read_text(path)})
    return test(model, card, data, trust, False)


def test(model: nn.Module, card: Card, data: Any, trust: Sequence[str], quick: bool) -> dict[str, float]:
    """The test metrics on ``data``, by the task of the card; ``quick`` leaves out what a ``Thorough`` task says."""
    task: Any = build(card.task, "task", trust, _partial_=True)(model=model)
    if quick and isinstance(task, Thorough):
        task.measure_quickly()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning warns about data loader workers, which do not matter here
        trainer = Trainer(
            devices=1,  # with several, some images would be measured twice to fill the last batch
            logger=False,
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        trainer.test(task, datamodule=data, verbose=False)  # type: ignore[arg-type]
    return {name.removeprefix("test/"): float(value) for name, value in trainer.callback_metrics.items()}
