"""What a run prints: checks before it starts, a table of copied weights, and the results at its end."""

import re
import shlex
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from rich.table import Table
from torch import nn

from zoo.console import Console
from zoo.contracts import Data, Encoder, Generator, Labelled, OfPairs, OfSpeech, OfText, WithExample, require
from zoo.errors import ZooError
from zoo.pretrained.card import show
from zoo.pretrained.reading import architecture
from zoo.pretrained.transfer import FINE, Mismatch, Row
from zoo.run.commands import command
from zoo.run.processes import is_main_process
from zoo.run.resume import PICTURES

MANY = 30  # tensors; the table of more is a summary
SHOWN = 20  # tensors that do not fit, beside such a summary

console = Console(soft_wrap=True, quiet=not is_main_process())


def check_fit(task: Any, data: Any, config: dict[str, Any]) -> None:
    """Pass two training examples through a task's model, and say which setting is wrong if that fails.

    Raises:
        ZooError: the model does not accept the data's inputs, or does not return what the task needs.
    """
    require(data, Data, "a run", "give these data such methods")
    x, y = data.sample(2)
    model: nn.Module = task.model
    mode = model.training
    shape = "×".join(map(str, x.shape[1:]))
    try:
        with torch.no_grad(), torch.random.fork_rng():
            output = model.eval()(x)
    except (RuntimeError, ValueError) as error:
        known = dir(data)
        settings = " ".join(f"model.{k}={getattr(data, k)}" for k in config["model"] if k in known)
        advice = f"this data needs {settings}, which is the default" if settings else "choose another model or data"
        reason = str(error).splitlines()[0]
        raise ZooError(f"the model does not fit data={data.name}, inputs of {shape}: {reason}; {advice}") from None
    finally:
        model.train(mode)
    task.check_output(output, x, y)


def compile_or_warn(task: Any) -> None:
    """Compile, in place, the functions of its model that a task calls; if that is impossible, warn and go on."""
    model: nn.Module = task.model
    if not task.calls:
        warnings.warn(
            f"compile=true, but {type(task).__name__} with these settings calls nothing of its model that can be "
            "compiled; training goes on without it",
            stacklevel=2,
        )
        return
    try:
        torch.compile(lambda x: x * 2 + 1)(torch.ones(2))
    except Exception as error:  # the exception's class depends on the compiler and torch's version
        warnings.warn(
            f"compile=true, but torch.compile does not work here ({type(error).__name__}: "
            f"{str(error).strip().splitlines()[0]}); training goes on without it",
            stacklevel=2,
        )
        return
    model.compile()
    for name in task.calls:
        if name != "forward":  # bound as a method, so that a copy of the model calls it with the copy's weights
            setattr(model, name, MethodType(torch.compile(getattr(type(model), name)), model))


def copied(copy: Callable[[], list[Row]], source: str, whole: bool = False) -> list[Row]:
    """Copy weights from a source; if they do not fit, print the tensors that do not before the error is raised, which
    names the model that the card of the weights is for.
    """
    try:
        return copy()
    except Mismatch as mismatch:
        console.print(weight_table(mismatch.rows, set(), whole))
        if not whole and len(mismatch.rows) > MANY:
            console.print(misfits(mismatch.rows))
        said = architecture(source) if mismatch.other_architecture else ""
        raise ZooError(f"{mismatch}{said and '; '}{said}") from None


def misfits(rows: list[Row]) -> Table:
    """A row for each of the first ``SHOWN`` tensors that do not fit."""
    bad = [row for row in rows if row.status not in FINE]
    some = f"the first {SHOWN} of " if len(bad) > SHOWN else ""
    return weight_table(bad[:SHOWN], set(), title=f"{some}{len(bad)} tensors that do not fit")


def transfer(model: nn.Module, rows: list[Row], frozen: list[str], whole: bool = False) -> None:
    """Print for each tensor, or each group of layers, whether it was copied, and whether it is frozen."""
    if not rows:
        rows = [Row(name, "initial") for name in model.state_dict()]
    console.print(weight_table(rows, set(frozen), whole))


def weight_table(rows: list[Row], frozen: set[str], whole: bool = True, title: str = "transfer") -> Table:
    """A row for each tensor; unless ``whole``, a row for each group of layers if there are more than ``MANY``."""
    if not whole and len(rows) > MANY:
        return group_table(rows, frozen)
    table = Table("tensor", "weights", "", "frozen", title=title, title_justify="left")
    for row in rows:
        color = None if row.status in (*FINE, "initial") else "red"
        table.add_row(row.name, row.status, row.detail, "frozen" if row.name in frozen else "", style=color)
    return table


def group_table(rows: list[Row], frozen: set[str]) -> Table:
    """A row for the tensors of each group of layers, that is of each child of the model, with the same status."""
    title = f"transfer of {len(rows)} tensors; init.whole_table=true shows each"
    table = Table("layers", "weights", "tensors", "frozen", title=title, title_justify="left")
    groups: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        groups.setdefault((row.name.partition(".")[0], row.status), []).append(row.name)
    for (layer, status), names in groups.items():
        still = sum(name in frozen for name in names)
        amount = "" if not still else "frozen" if still == len(names) else f"{still} frozen"
        color = None if status in (*FINE, "initial") else "red"
        table.add_row(layer, status, str(len(names)), amount, style=color)
    return table


def start(config: dict[str, Any], model: nn.Module, data: Any, run_dir: Path) -> None:
    """Print one line: what is trained, on which data, and where files are written."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    name = f"{config['name']}{changes(config['card']['command'])}"
    console.print(
        f"{name}: {trained:,} trained parameters; {data.summary()}; seed {config['seed']}; "
        f"writing to {relative(run_dir)}"
    )


# Overrides that the run's name and its first line tell anyway
TOLD = re.compile(r"\+*(experiment|model|data|name|seed|resume|hydra[\w./@]*|data\.root|callbacks\.progress)=")


def changes(command: str, most: int = 4) -> str:
    """What a run's command changes, in brackets after its name: ``" (optimizer.lr=0.2)"``; empty if nothing."""
    said = [word.lstrip("+") for word in shlex.split(command)[2:] if "=" in word and not TOLD.match(word)]
    more = ", …" if len(said) > most else ""
    return f" ({', '.join(said[:most])}{more})" if said else ""


def finished(
    metrics: dict[str, float], describe: Any, chosen: Path | None, data: Any, model: Any, run_dir: Path
) -> None:
    """Print the test metrics, the path of the checkpoint and the commands that use it."""
    if metrics:
        title = f"{describe.card.name}{changes(describe.card.command)}"
        table = Table("test metric", "value", title=title, title_justify="left")
        for name, value in metrics.items():
            table.add_row(name.removeprefix("test/"), show(name, value))
        if "test/accuracy" in metrics and isinstance(data, Labelled):
            table.add_row("error", show("error", 1 - metrics["test/accuracy"]))
        console.print(table)
    console.print(f"trained for {describe.card.minutes * 60:.0f} s")
    if chosen is None:
        return
    if not chosen.is_relative_to(run_dir):
        raise ZooError(f"the checkpoint could not be written to {run_dir}; it is in {chosen}: move it somewhere safe")
    chosen, run_dir = relative(chosen), relative(run_dir)
    console.print(f"checkpoint   {chosen}")
    for line in watching(describe.config["logger"] or {}, run_dir):
        console.print(line)
    module = describe.card.model["_target_"].rpartition(".")[0]
    trust = "" if module.startswith("zoo.") else f" --trust {module}"
    encodes, draws = isinstance(model, Encoder), isinstance(model, Generator)
    if isinstance(data, WithExample) and (encodes or not draws):
        verb = "reconstruct" if encodes else "transcribe" if isinstance(data, OfSpeech) else "predict"
        console.print(f"{verb:12} {command('zoo')} {verb} {chosen} {data.save_example(run_dir)}{trust}")
    if isinstance(data, OfPairs):
        console.print(f"translate    {command('zoo')} translate {chosen} --text SENTENCE{trust}")
    if isinstance(data, OfText) or draws:
        console.print(f"sample       {command('zoo')} sample {chosen}{trust}")


def watching(loggers: Mapping[str, Any], run_dir: Path) -> list[str]:
    """How to look at what each logger of a run has written, a line each; and where pictures are, if they are files."""
    lines = []
    for node in filter(None, loggers.values()):
        match node["_target_"].rpartition(".")[2]:
            case "Curves":
                lines.append(f"watch        {command('tensorboard')} --logdir logs")
            case "Rows":
                lines.append(f"curves       {run_dir / 'metrics.csv'}")
            case "MLFlowLogger":
                lines.append(f"watch        {command('mlflow')} ui --backend-store-uri {node['tracking_uri']}")
            case "WandbLogger" if node.get("offline"):
                lines.append(f"upload       {command('wandb')} sync {run_dir / 'wandb' / 'latest-run'}")
    if (run_dir / PICTURES).is_dir():
        lines.append(f"pictures     {run_dir / PICTURES}")
    return lines


def relative(path: Path) -> Path:
    """The path relative to the current folder, if it lies below it."""
    return path.resolve().relative_to(Path.cwd()) if path.resolve().is_relative_to(Path.cwd()) else path
