"""The program ``zoo`` with its commands list, info, train and predict; other files in this folder have the rest.

Imports of torch are inside the commands, so that ``--help``, ``list`` and completion answer at once.
"""

import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from zoo.cli.groups import Sections
from zoo.config.registry import list_models, suggest
from zoo.console import Console
from zoo.errors import ZooError
from zoo.paths import CONFIGS
from zoo.pretrained.card import Card, read_shipped, shipped, show
from zoo.terminal import as_json, clean, say

app = typer.Typer(
    cls=Sections,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
console = Console(soft_wrap=True)


def complete_name(incomplete: str) -> list[str]:
    return [name for name in shipped() if name.startswith(incomplete)]


def complete_any(incomplete: str) -> list[str]:
    return [name for name in [*shipped(), *list_models()] if name.startswith(incomplete)]


Name = Annotated[str, typer.Argument(help="A shipped name (zoo list) or a checkpoint.", autocompletion=complete_name)]
AnyName = Annotated[
    str, typer.Argument(help="A shipped name or a model (zoo list), or a checkpoint.", autocompletion=complete_any)
]
Invert = Annotated[
    bool,
    typer.Option("--invert", help="Swap dark and light; for digits and garments: say that the object is dark."),
]
Trust = Annotated[
    list[str] | None,
    typer.Option(help="Your own module with the checkpoint's model; or KEY=PATH, for a file that it names."),
]


def show_version(asked: bool) -> None:
    if asked:
        from zoo import __version__

        print(f"reference-zoo {__version__}")
        raise typer.Exit()


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """A reference model zoo: trained models to look at, use and train again."""


@app.command("list")
def list_(
    data: Annotated[str | None, typer.Option(help="Only weights trained on this data set, such as mnist.")] = None,
    task: Annotated[str | None, typer.Option(help="Only weights of this objective, such as language.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """List the models and the shipped weights with their results on the test split."""
    cards, errors = read_shipped()
    check_choice("--data", data, {str(card.data.get("name")) for card in cards})
    check_choice("--task", task, {objective(card) for card in cards})
    cards = [c for c in cards if data in (None, c.data.get("name")) and task in (None, objective(c))]
    if json:
        print(as_json([summary(card) for card in cards]))
        complain(errors)
        return
    if data is None and task is None:
        console.print(f"models (zoo.create, model=…): {', '.join(list_models())}")
    fields = [(c.name, c.data.get("name", ""), f"{c.parameters:,}", c.headline(short=True), c.title) for c in cards]
    rows = [tuple(clean(str(field)) for field in row) for row in fields]
    # in a narrow terminal only titles are shortened, because names and figures are meant to be copied
    heads = ("weights", "data", "parameters", "test", "title")
    *widths, titles = (max(map(len, column)) for column in zip(heads, *rows, strict=True))
    taken = sum(widths) + 2 * len(widths)
    if console.is_terminal:  # a pipe gets the full titles
        titles = console.width - taken
        if titles < 20:  # too narrow for titles
            heads, rows, titles = heads[:-1], [row[:-1] for row in rows], 0
        else:
            rows = [(*row, textwrap.shorten(title, titles, placeholder="…")) for *row, title in rows]
    table = Table(*(Column(head, no_wrap=True) for head in heads), box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(width=taken + titles).print(table)
    complain(errors)


def objective(card: Card) -> str:
    """The name of a card's task, as in ``task=classify``."""
    target = str(card.task.get("_target_", ""))
    for path in sorted((CONFIGS / "task").glob("*.yaml")):
        if f"_target_: {target}\n" in path.read_text(encoding="utf-8"):
            return path.stem
    return target.rpartition(".")[2].lower()


def check_choice(option: str, given: str | None, valid: set[str]) -> None:
    if given is not None and given not in valid:
        raise ZooError(f"{option} {given}: no shipped weights are of that; valid: {', '.join(sorted(valid))}")


def summary(card: Card) -> dict[str, Any]:
    """What ``zoo list --json`` says of shipped weights."""
    return {
        "name": card.name,
        "title": card.title,
        "data": card.data.get("name"),
        "task": objective(card),
        "model": card.model.get("_target_"),
        "parameters": card.parameters,
        "metric": card.metric,
        "metrics": card.metrics,
        "licence": card.licence,
    }


@app.command()
def info(name: AnyName, trust: Trust = None) -> None:
    """Show the card of shipped weights or of a checkpoint, or the config of a model, and its layers: output shapes,
    parameters, multiply-adds, and receptive fields with the distance in pixels between neighbouring ones (jump)."""
    from zoo.pretrained.loading import example, load, model_config
    from zoo.use.profile import layer_table

    if name in list_models() and name not in shipped() and not Path(name).exists():
        table = Table("", "", show_header=False)
        for key, value in model_config(name).items():
            table.add_row(key, in_words(value))
        console.print(table)
        console.print(layer_table(*example(name)))
        return
    plain = re.fullmatch(r"[\w-]+", name)  # neither a path nor a repository on the hub
    if plain and name not in shipped() and not Path(name).exists():
        raise suggest(name, [*shipped(), *list_models()], "shipped weight or model", "the path of a checkpoint")
    model: Any = load(name, trust or ())
    console.print(card_table(model.card))
    console.print(layer_table(model, model.preprocess.random_input(1)))


def in_words(value: Any) -> str:
    """A value of a model's config; of one that refers to a run's other settings, where it comes from."""
    if isinstance(value, str) and (found := re.fullmatch(r"\$\{([\w.]+)\}", value)):
        group, _, key = found[1].rpartition(".")
        return f"from the {group}" if group else f"the run's {key}"
    return str(value)


def shortened(value: Any, most: int = 300) -> str:
    """A value as text; only the beginning of a long one, such as a vocabulary."""
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def card_table(card: Card) -> Table:
    """A table with the contents of a card."""
    table = Table("", "", show_header=False)
    for key in ("name", "title", "parameters", "published", "command", "minutes", "hardware"):
        table.add_row(key, str(getattr(card, key)))
    table.add_row("licence", card.licence or "not stated")
    for key, value in card.metrics.items():
        table.add_row(key, show(key, value))
    if len(card.runs) > 1:
        mean, spread = (show(card.metric, value) for value in card.mean_and_spread(card.metric))
        table.add_row(f"{card.metric} over seeds", f"{mean} ± {spread} ({len(card.runs)} runs)")
    if card.quick_examples:
        shown = ", ".join(f"{key} {show(key, value)}" for key, value in card.quick_metrics.items())
        table.add_row(f"first {card.quick_examples:,} test examples", shown)
    for key in ("model", "task", "data", "preprocess"):
        table.add_row(key, ", ".join(f"{k}={shortened(v)}" for k, v in getattr(card, key).items()))
    if card.classes:
        table.add_row("classes", ", ".join(map(str, card.classes)))
    return table


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def train(context: typer.Context) -> None:
    """Train a model, like train.py; zoo train --help lists the choices."""
    from zoo.train import main

    sys.argv = ["zoo train", *context.args]
    main()


@app.command()
def predict(
    name: Name,
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 3,
    invert: Invert = False,
    show: Annotated[
        Path | None, typer.Option(help="A picture file to write: each image, and beside it what the model saw.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
    trust: Trust = None,
) -> None:
    """Classify images: show the most probable classes of each. Files that are not images are reported and skipped, and
    a warning tells if an image is unlike the training data."""
    from zoo.use.predict import predict_files

    results, errors = predict_files(name, images, top, invert, trust or (), show)
    for result in results:
        for warning in result["warnings"]:
            say(f"warning: {result['file']}: {warning}")
    if json:
        print(as_json(results))
    else:
        for result in results:
            shown = "  ".join(f"{p['class']} {p['probability']:.1%}" for p in result["predictions"])
            console.print(f"{result['file']}  {shown}")
    complain(errors)


def class_number(name: str, classes: Sequence[Any] | None, label: str) -> int:
    """The number of a class that is given by its name or number (``--class``); ``ZooError`` if a model lacks it."""
    names = [str(c) for c in classes or ()]
    if label not in names and not (label.isascii() and label.isdigit() and int(label) < len(names)):
        valid = f"it has {', '.join(names)}" if names else "it has no classes"
        raise ZooError(f"--class={label}: no class of {name} is called that; {valid}")
    return names.index(label) if label in names else int(label)


def complain(errors: Sequence[str]) -> None:
    """Print errors that did not stop the command, one per line; if there are any, the exit code is 1."""
    for error in errors:
        say(f"error: {error}")
    if errors:
        raise typer.Exit(1)


def one_line(error: Exception) -> str:
    """The message of an error in one line; for an unexpected error also how to get its traceback."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    from zoo.run.explain import message

    line, foreseen = message(error)
    return line if foreseen else f"{line} (the traceback: ZOO_TRACEBACK=1 zoo …)"
