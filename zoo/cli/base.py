"""The command ``zoo``, and of its subcommands list, info, train and predict; the others are in the files beside.

Imports of torch stand inside the commands, so that ``--help``, ``list`` and completion answer at once.
"""

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from zoo.config.registry import list_models
from zoo.console import Console
from zoo.pretrained.card import Card, read_shipped, shipped, show
from zoo.terminal import as_json, clean, say

app = typer.Typer(
    help="A reference model zoo: trained models to look at, use and train again.",
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
Trust = Annotated[
    list[str] | None,
    typer.Option(help="A module of your own that the checkpoint's model is in; or KEY=PATH, a file that it names."),
]


@app.command("list")
def list_() -> None:
    """The models there are, and the weights shipped with them."""
    console.print(f"models (zoo.create, model=…): {', '.join(list_models())}")
    cards, errors = read_shipped()
    fields = [(c.name, c.data.get("name", ""), f"{c.parameters:,}", c.headline(short=True), c.title) for c in cards]
    rows = [tuple(clean(str(field)) for field in row) for row in fields]
    # names and figures are there to be copied, so it is the title that is cut off where the terminal is narrow
    heads = ("weights", "data", "parameters", "test", "title")
    *widths, titles = (max(map(len, column)) for column in zip(heads, *rows, strict=True))
    taken = sum(widths) + 2 * len(widths)
    if console.is_terminal:  # a pipe has the titles whole
        titles = console.width - taken
        if titles < 20:  # too few characters to say something
            heads, rows, titles = heads[:-1], [row[:-1] for row in rows], 0
        else:
            rows = [(*row, textwrap.shorten(title, titles, placeholder="…")) for *row, title in rows]
    table = Table(*(Column(head, no_wrap=True) for head in heads), box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(width=taken + titles).print(table)
    complain(errors)


@app.command()
def info(name: AnyName, trust: Trust = None) -> None:
    """What a weight is: its card; of a model, its config; and the layers of both: the shapes of their outputs,
    parameters, multiply-adds, and receptive fields with the pixels from one to the next (jump)."""
    from zoo.pretrained.loading import example, load, model_config
    from zoo.use.profile import layer_table

    if name in list_models() and name not in shipped() and not Path(name).exists():
        table = Table("", "", show_header=False)
        for key, value in model_config(name).items():
            table.add_row(key, str(value))
        console.print(table)
        console.print(layer_table(*example(name)))
        return
    model: Any = load(name, trust or ())
    console.print(card_table(model.card))
    console.print(layer_table(model, model.preprocess.random_input(1)))


def shortened(value: Any, most: int = 300) -> str:
    """A value for people: of a long one, as a vocabulary, the beginning."""
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def card_table(card: Card) -> Table:
    """A card for people."""
    table = Table("", "", show_header=False)
    for key in ("name", "title", "parameters", "published", "command", "minutes", "hardware", "licence"):
        table.add_row(key, str(getattr(card, key)))
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
    """Train: the same as train.py; zoo train --help lists the choices."""
    from zoo.train import main

    sys.argv = ["zoo train", *context.args]
    main()


@app.command()
def predict(
    name: Name,
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 3,
    invert: Annotated[bool, typer.Option("--invert", help="Swap dark and light: ink on paper for MNIST.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON list on stdout.")] = False,
    trust: Trust = None,
) -> None:
    """Classify images: the most probable classes of each. Files that are no images are named, and the rest go on."""
    from zoo.use.predict import predict_files

    results, errors = predict_files(name, images, top, invert, trust or ())
    if json:
        print(as_json(results))
    else:
        for result in results:
            shown = "  ".join(f"{p['class']} {p['probability']:.1%}" for p in result["predictions"])
            console.print(f"{result['file']}  {shown}")
    complain(errors)


def complain(errors: Sequence[str]) -> None:
    """Each of what went wrong while the rest went on; any makes the exit code 1."""
    for error in errors:
        say(f"error: {error}")
    if errors:
        raise typer.Exit(1)


def one_line(error: Exception) -> str:
    """What went wrong; for an error that nobody foresaw also how to see where it came from."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    from zoo.run.explain import message

    line, foreseen = message(error)
    return line if foreseen else f"{line} (the traceback: ZOO_TRACEBACK=1 zoo …)"
