"""What the benchmarks share: a training run as a user starts it, on the clock; ratios; a table."""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

Json = Annotated[Path | None, typer.Option("--json", help="Write the rows to this file as well.")]


class Clock(Callback):
    """Times each training epoch, from its start to the next one's or the training's end, without the validation.

    So all that a user waits for counts: steps, logging, images, checkpoints. Hydra makes it, from a run's config;
    ``current`` is the one made last, and ``before_epoch`` is called before every epoch, off the clock.
    """

    current: "Clock"
    before_epoch: Callable[[Trainer, LightningModule], None] | None = None

    def __init__(self) -> None:
        Clock.current = self
        self.seconds: list[float] = []
        self.total = 0.0  # of the whole run, with validation and test
        self.start: float | None = None

    def stop(self) -> None:
        if self.start is not None:
            self.seconds.append(time.perf_counter() - self.start)
        self.start = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.stop()
        if Clock.before_epoch is not None:
            Clock.before_epoch(trainer, pl_module)
        self.start = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.paused = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.start is not None:
            self.start += time.perf_counter() - self.paused

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.stop()


def run(overrides: Sequence[str], before_epoch: Callable[[Trainer, LightningModule], None] | None = None) -> Clock:
    """``python train.py OVERRIDES`` in this process, by the same functions and with all its defaults, on the clock."""
    from zoo.run.compose import hydra_of_its_own
    from zoo.run.fit import command
    from zoo.train import train

    with TemporaryDirectory() as folder, hydra_of_its_own():
        cfg, said, _ = command([*overrides, "+callbacks.clock._target_=timing.Clock", f"hydra.run.dir={folder}"])
        Clock.before_epoch = before_epoch
        start = time.perf_counter()
        train(cfg, said)
        Clock.current.total = time.perf_counter() - start
    return Clock.current


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """The median of the ratios of runs taken in turn, and the least and the largest."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {"ratio": statistics.median(ratios), "spread": f"{min(ratios):.3f} to {max(ratios):.3f}"}


def in_turn(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each call, taken in turn: A B C A B C …; one round before that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if i:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def show(title: str, rows: Sequence[dict[str, Any]], file: Path | None = None) -> None:
    """Print rows as a table, and write them to a JSON file."""
    terminal = "drawn to a terminal" if sys.stdout.isatty() else "no terminal"
    busy = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs, {terminal}"
    table = Table(*rows[0], title=title, caption=busy, title_justify="left", caption_justify="left")
    for row in rows:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(table)
    if file:
        file.write_text(json.dumps({"title": title, "machine": busy, "rows": list(rows)}, indent=2) + "\n")
