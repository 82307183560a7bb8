"""Creating shipped weights and their cards from finished runs."""

import hashlib
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import LearningRateMonitor, Timer
from omegaconf import OmegaConf
from safetensors.torch import save
from torch import Tensor, nn

from zoo.callbacks.picture import Picture
from zoo.config.checks import differing, locate
from zoo.config.foreign import check_name
from zoo.data.images import ImageData
from zoo.errors import ZooError
from zoo.paths import CONFIGS, WEIGHTS
from zoo.pretrained.card import Card, shipped, show
from zoo.pretrained.evaluate import data_of, measure, measure_quick
from zoo.pretrained.loading import load
from zoo.pretrained.reading import read_checkpoint
from zoo.pretrained.typical import measure_typical
from zoo.run.progress import Progress

# Settings in which the runs of one result may differ: the seed, names and folders, and what is only shown.
MAY_DIFFER = {
    "seed", "name", "logger", "resume", "card", "data.seed", "model.seed", "data.root", "trainer.enable_progress_bar",
}  # fmt: skip
ONLY_SHOW = (Picture, Progress, LearningRateMonitor, Timer)  # callbacks that do not affect training


@cache
def may_differ() -> set[str]:
    """``MAY_DIFFER``, and the callbacks in configs/ that only show something."""
    found = set(MAY_DIFFER)
    for path in (CONFIGS / "callbacks").glob("*.yaml"):
        for name, node in (OmegaConf.load(path) or {}).items():
            if isinstance(node, Mapping) and issubclass(locate(node["_target_"], f"callbacks.{name}"), ONLY_SHOW):
                found.add(f"callbacks.{name}")
    return found


LICENCE = "MIT"  # of the weights that the zoo ships
MOVED = 1e-3  # the largest relative change of the card's metric that rounding to half precision may cause


def publish(name: str, runs: Sequence[Path], note: str = "", half: bool = False) -> Card:
    """Ship the weights of the first run, with the metrics of all runs.

    The first run is shipped whatever its result: choosing the best one would be model selection on the test set.

    Args:
        note: see ``Card``.
        half: round the weights to float16, which halves the size of the file; ``load`` converts them to float32 again.

    Raises:
        ZooError: a run has no test metrics, or was tested on a part of the test split; two runs differ in their
            settings or have the same seed; the task does not measure the metric that the card shows first; or rounding
            would change that metric by more than a thousandth.
    """
    check_name(name, "NAME")
    checkpoints = [tested_checkpoint(run) for run in runs]
    configs = [read_checkpoint(path)["config"] for path in checkpoints]
    first = settings(configs[0])
    for run, config in zip(runs, configs, strict=True):
        if others := differing(first, settings(config)):
            raise ZooError(
                f"{run} was trained with other settings than {runs[0]} ({', '.join(others)}); publish runs that "
                "differ in seed alone"
            )
    if configs[0]["trainer"].get("limit_test_batches") is not None:
        raise ZooError(f"{runs[0]} was tested on a part of the test split; publish runs that were tested on all of it")
    seeds = [config["seed"] for config in configs]
    check_seeds(seeds)
    model: nn.Module = load(checkpoints[0])
    card: Card = model.card  # type: ignore[assignment]
    card.name, card.note, card.licence = name, note, card.licence or LICENCE
    weights = {key: rounded(tensor) if half else tensor for key, tensor in model.state_dict().items()}
    model.load_state_dict(weights)  # to measure the rounded weights
    card.metrics = measure(model, card)
    if card.metric not in card.metrics:
        raise ZooError(f"the card shows {card.metric} first, but its task measures {', '.join(card.metrics)}")
    card.quick_examples, card.quick_metrics = measure_quick(model, card)
    card.typical = typical_of(model)
    card.runs = [result(run, seed, card) for run, seed in zip(runs, seeds, strict=True)]
    shown, before = card.metrics[card.metric], card.runs[0].get(card.metric)
    if half and before is not None and abs(shown - before) > MOVED * abs(before):
        raise ZooError(
            f"in half precision {card.metric} is {show(card.metric, shown)}, not {show(card.metric, before)} as the "
            f"run measured; publish {name} without --half"
        )
    content = save({key: tensor.contiguous() for key, tensor in weights.items()})
    card.sha256, card.size = hashlib.sha256(content).hexdigest(), len(content)
    WEIGHTS.mkdir(exist_ok=True)
    part = WEIGHTS / f".{name}.safetensors"
    part.write_bytes(content)
    os.replace(part, WEIGHTS / f"{name}.safetensors")
    card.save(WEIGHTS / f"{name}.json")
    return card


def add(name: str, runs: Sequence[Path], note: str = "") -> Card:
    """Add the metrics of runs with other seeds to a shipped card, for example from another machine; the weights stay.

    Args:
        note: replaces the card's note, if not empty.

    Raises:
        ZooError: nothing is shipped by that name; a run has no test metrics or a seed that the card has already; or its
            command, model, task, data or preprocessing differ from those on the card.
    """
    if name not in shipped():
        raise ZooError(f"nothing is shipped as {name} that runs could be added to; publish it without --add")
    card = Card.read(shipped()[name])
    said = told(card)
    for run in runs:
        content = read_checkpoint(tested_checkpoint(run))
        if others := differing(said, told(Card.of(content["card"], str(run)))):
            raise ZooError(f"{run} is another experiment than {name}: they differ in {', '.join(others)}")
        card.runs.append(result(run, content["config"]["seed"], card))
    check_seeds([int(run["seed"]) for run in card.runs])
    card.note = note or card.note
    card.save(shipped()[name])
    return card


def refresh_quick(name: str) -> Card:
    """Measure shipped weights on the first test examples again and write the result to their card; all else stays."""
    if name not in shipped():
        raise ZooError(f"nothing is shipped as {name}; give a name of zoo list")
    model: Any = load(name)
    card: Card = model.card
    card.quick_examples, card.quick_metrics = measure_quick(model, card)
    card.save(shipped()[name])
    return card


def refresh_typical(name: str) -> Card:
    """Measure what shipped weights give for training images, and write it to their card; all else stays.

    Raises:
        ZooError: nothing is shipped by that name, or it does not classify images of one object.
    """
    if name not in shipped():
        raise ZooError(f"nothing is shipped as {name}; give a name of zoo list")
    model: Any = load(name)
    card: Card = model.card
    card.typical = typical_of(model)
    if not card.typical:
        raise ZooError(f"{name} is no classifier of images like MNIST or Fashion-MNIST, so nothing is measured")
    card.save(shipped()[name])
    return card


def typical_of(model: Any) -> dict[str, Any]:
    """A card's ``typical`` for a classifier of digits or garments; empty for other models."""
    data = data_of(model, model.card)
    if not (isinstance(data, ImageData) and data.preprocess.fit != "resize" and data.binarise == "none"):
        return {}
    x, _ = data.sample(2, "test")
    with torch.inference_mode():
        logits = model(x)
    classifies = isinstance(logits, Tensor) and logits.shape == (2, len(model.classes))
    return measure_typical(model, data) if classifies else {}


def told(card: Card) -> dict[str, Any]:
    """What a card records of the settings of its runs, in the form that ``settings`` returns."""
    overrides = (o for o in shlex.split(card.command) if o.lstrip("+").partition("=")[0] not in may_differ())
    groups = {group: getattr(card, group) for group in ("model", "task", "data", "preprocess")}
    return settings({**groups, "command": sorted(overrides)})


def result(run: Path, seed: int, card: Card) -> dict[str, float]:
    """A run's seed and test metrics, restricted to the metrics on the card."""
    return {"seed": seed, **{key: value for key, value in tested_metrics(run).items() if key in card.metrics}}


def check_seeds(seeds: Sequence[int]) -> None:
    if len(set(seeds)) < len(seeds):
        raise ZooError(f"two of the runs have the same seed ({', '.join(map(str, seeds))}); give each seed once")


def rounded(tensor: Tensor) -> Tensor:
    """A float32 tensor in half precision; one with values beyond its range, or of another type, is left unchanged."""
    fits = tensor.dtype == torch.float32 and bool(tensor.abs().max() <= torch.finfo(torch.float16).max)
    return tensor.half() if fits else tensor


def settings(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The settings in a config that determine a run's result, except for the seed: single values by dotted key."""
    kept: dict[str, Any] = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        if key not in may_differ() and name != "dirpath":
            kept |= settings(value, f"{key}.") if isinstance(value, Mapping) and value else {key: value}
    return kept


def metrics(run: Path) -> Path:
    return run / "metrics.json"


def tested_metrics(run: Path) -> dict[str, float]:
    """A run's test metrics, without the prefix ``test/`` in their names."""
    found = json.loads(metrics(run).read_text()).items()
    return {name.removeprefix("test/"): value for name, value in found if name.startswith("test/")}


def tested_checkpoint(run: Path) -> Path:
    """The checkpoint on which a run's test metrics were measured.

    Raises:
        ZooError: the run was not tested, or the checkpoint has changed since it was tested.
    """
    paths = [path for name in ("last", "best") if (path := run / "checkpoints" / f"{name}.ckpt").exists()]
    tested = tested_metrics(run) if metrics(run).exists() else {}
    if not (paths and tested):
        raise ZooError(f"{run} is not the folder of a run that was tested")
    select = read_checkpoint(paths[0])["config"]["select"]
    path = next((path for path in paths if path.stem == select), paths[0])
    noted = read_checkpoint(path)["card"]["metrics"]
    if not (both := noted.keys() & tested) or any(noted[name] != tested[name] for name in both):
        raise ZooError(f"{metrics(run)} was not measured on {path.name} as it is now; finish the run, with its test")
    return path
