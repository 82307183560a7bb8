"""Making shipped weights and cards from finished runs, and RESULTS.md from the cards."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from zoo.card import Card, shipped
from zoo.errors import ZooError
from zoo.evaluate import measure
from zoo.paths import WEIGHTS
from zoo.pretrained import load, read_checkpoint

# What two runs of one result have in common; they differ in seed, in folders, and in what is shown meanwhile.
SETTINGS = ("model", "task", "data", "optimizer", "scheduler", "init", "select")


def publish(name: str, runs: Sequence[Path], note: str = "") -> Card:
    """Ship the weights of the first run, with the metrics of all.

    The first of the seeds is shipped whatever it reached: choosing the best would be choosing on test.

    Raises:
        ZooError: a run without test metrics, runs of different settings or of the same seed.
    """
    checkpoints = [tested_checkpoint(run) for run in runs]
    configs = [read_checkpoint(path)["config"] for path in checkpoints]
    for run, config in zip(runs, configs, strict=True):
        if settings(config) != settings(configs[0]):
            raise ZooError(
                f"{run} was trained with other settings than {runs[0]}; publish runs that differ in seed alone"
            )
    if configs[0]["trainer"].get("limit_test_batches") is not None:
        raise ZooError(f"{runs[0]} was tested on a part of the test split; publish runs that were tested on all of it")
    seeds = [config["seed"] for config in configs]
    if len(set(seeds)) < len(seeds):
        raise ZooError(f"two of the runs have the same seed ({', '.join(map(str, seeds))}); give each seed once")
    model: nn.Module = load(checkpoints[0])
    card: Card = model.card  # type: ignore[assignment]
    card.name, card.note = name, note
    card.metrics = measure(model, card)
    for run, seed in zip(runs, seeds, strict=True):
        tested = {k.removeprefix("test/"): v for k, v in json.loads(metrics(run).read_text()).items()}
        card.runs.append({"seed": seed, **{k: v for k, v in tested.items() if k in card.metrics}})
    content = save({key: tensor.contiguous() for key, tensor in model.state_dict().items()})
    card.sha256 = hashlib.sha256(content).hexdigest()
    WEIGHTS.mkdir(exist_ok=True)
    part = WEIGHTS / f".{name}.safetensors"
    part.write_bytes(content)
    os.replace(part, WEIGHTS / f"{name}.safetensors")
    card.save(WEIGHTS / f"{name}.json")
    return card


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """What of a run's config makes its result, without the seed."""
    kept = {key: config.get(key) for key in SETTINGS}
    kept["data"] = {k: v for k, v in config["data"].items() if k not in ("seed", "root")}
    kept["length"] = [
        config["trainer"].get(key) for key in ("max_epochs", "max_steps", "limit_train_batches", "limit_test_batches")
    ]
    return kept


def metrics(run: Path) -> Path:
    return run / "metrics.json"


def tested_checkpoint(run: Path) -> Path:
    """The checkpoint of a run that its test metrics were measured on."""
    if metrics(run).exists():
        for path in (run / "checkpoints" / "best.ckpt", run / "checkpoints" / "last.ckpt"):
            if path.exists() and "accuracy" in read_checkpoint(path)["card"]["metrics"]:
                return path
    raise ZooError(f"{run} is not the folder of a run that was tested")


def results_table() -> str:
    """RESULTS.md: a row a shipped weight."""
    lines = [
        "# Results",
        "",
        "Made by `zoo results --write RESULTS.md` from the cards in `zoo/weights/`. Accuracy and error are on the",
        "official test split; `zoo evaluate --all` measures the shipped weights again. Mean ± standard deviation are",
        "over the seeds of the last column; the weights shipped, and the minutes of training, are the first seed's.",
        "Studies: [transfer from MNIST to Fashion-MNIST](docs/transfer.md), [speed](benchmarks/README.md).",
        "",
        "| weights | data | parameters | accuracy | error | error, mean ± sd | published | minutes | seeds |",
        "|---|---|---:|---:|---:|---:|---|---:|---|",
    ]
    cards = [Card.read(path) for path in shipped().values()]
    for card in cards:
        mean, spread = card.mean_and_spread("accuracy")
        accuracy = card.metrics["accuracy"]
        seeds = ", ".join(str(int(run["seed"])) for run in card.runs)
        many = f"{1 - mean:.2%} ± {spread:.2%}" if len(card.runs) > 1 else "one seed"
        lines.append(
            f"| [{card.name}](zoo/weights/{card.name}.json) | {card.data['name']} | {card.parameters:,} "
            f"| {accuracy:.2%} | "
            f"{1 - accuracy:.2%} | {many} | {card.published} | {card.minutes:.1f} | {seeds} |"
        )
    lines += ["", "Commands (add `seed=1` and so on for the other seeds) and hardware:", ""]
    for card in cards:
        note = f" ({card.note})" if card.note else ""
        lines.append(f"- `{card.command}`: {card.hardware}, torch {card.versions.get('torch', '')}{note}")
    return "\n".join(lines) + "\n"


MARKS = ("<!-- shipped", "<!-- /shipped -->")


def readme_with_table(page: str) -> str:
    """README.md with its table of the shipped weights made anew, between its two marks.

    Raises:
        ZooError: the page has no marks.
    """
    before, start, rest = page.partition(MARKS[0])
    head, line_end, rest = rest.partition("\n")
    _, end, after = rest.partition(MARKS[1])
    if not (start and line_end and end):
        raise ZooError(f"README.md has no lines {MARKS[0]} … --> and {MARKS[1]} for the table to stand between")
    lines = ["| weights | what it is | parameters | test accuracy | published |", "|---|---|---:|---:|---|"]
    for card in (Card.read(path) for path in shipped().values()):
        accuracy = f"{card.metrics['accuracy']:.2%}"
        lines.append(f"| `{card.name}` | {card.title} | {card.parameters:,} | {accuracy} | {card.published} |")
    return before + start + head + "\n\n" + "\n".join(lines) + "\n\n" + end + after
