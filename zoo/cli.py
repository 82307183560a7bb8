"""The command ``zoo``: list, info, train, predict, evaluate, export, publish, results.

Imports of torch stand inside the commands, so that ``--help``, ``list`` and completion answer at once.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from zoo.card import Card, shipped
from zoo.errors import ZooError
from zoo.paths import CONFIGS

app = typer.Typer(
    help="A reference model zoo: trained models to look at, use and train again.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
console = Console(highlight=False, soft_wrap=True)


def complete_name(incomplete: str) -> list[str]:
    return [name for name in shipped() if name.startswith(incomplete)]


Name = Annotated[str, typer.Argument(help="A shipped name (zoo list) or a checkpoint.", autocompletion=complete_name)]
Trust = Annotated[list[str] | None, typer.Option(help="A module of your own that the checkpoint's model is in.")]


@app.command("list")
def list_() -> None:
    """The models there are, and the weights shipped with them."""
    models = sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml"))
    console.print(f"models (zoo.create, model=…): {', '.join(models)}")
    table = Table("weights", "data", "parameters", "test accuracy", "")
    for card in (Card.read(path) for path in shipped().values()):
        accuracy = f"{card.metrics['accuracy']:.2%}" if "accuracy" in card.metrics else ""
        table.add_row(card.name, card.data["name"], f"{card.parameters:,}", accuracy, card.title)
    console.print(table)


@app.command()
def info(name: Name, trust: Trust = None) -> None:
    """What a weight is: its card, and its layers with their output shapes."""
    from zoo.features import layer_table
    from zoo.pretrained import load

    model: Any = load(name, trust or ())
    card: Card = model.card
    table = Table("", "", show_header=False)
    for key in ("name", "title", "parameters", "published", "command", "minutes", "hardware", "licence"):
        table.add_row(key, str(getattr(card, key)))
    for key, value in card.metrics.items():
        table.add_row(key, f"{value:.4f}")
    if len(card.runs) > 1:
        mean, spread = card.mean_and_spread("accuracy")
        table.add_row("accuracy over seeds", f"{mean:.4f} ± {spread:.4f} ({len(card.runs)} runs)")
    for key in ("model", "task", "data", "preprocess"):
        table.add_row(key, ", ".join(f"{k}={v}" for k, v in getattr(card, key).items()))
    table.add_row("classes", ", ".join(card.classes))
    console.print(table)
    console.print(layer_table(model, model.preprocess.random_input(1)))


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
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list on stdout.")] = False,
    trust: Trust = None,
) -> None:
    """Classify images: the most probable classes of each. Files that are no images are named, and the rest go on."""
    from zoo.predict import image_files, predict_files

    files = image_files(images)
    results, errors = predict_files(name, files, top, invert, trust or ())
    if as_json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    else:
        for result in results:
            shown = "  ".join(f"{p['class']} {p['probability']:.1%}" for p in result["predictions"])
            console.print(f"{result['file']}  {shown}")
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    if errors:
        raise typer.Exit(1)


@app.command()
def evaluate(
    name: Annotated[
        str | None, typer.Argument(help="A shipped name or a checkpoint.", autocompletion=complete_name)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All shipped weights.")] = False,
    root: Annotated[str | None, typer.Option(help="The folder of the data.")] = None,
    trust: Trust = None,
) -> None:
    """Measure again on the official test split; the exit code is 1 where it is not what the card says."""
    from zoo.evaluate import evaluate as measure_again

    if everything == (name is not None):
        raise ZooError("give a name, or --all")
    table = Table("weights", "metric", "card", "measured", "")
    bad: list[str] = []
    for source in list(shipped()) if everything else [str(name)]:
        try:
            card, metrics, off = measure_again(source, root, trust or ())
        except ZooError as error:
            if not everything:
                raise
            bad.append(source)
            table.add_row(source, "", "", "", str(error), style="red")
            continue
        if off:
            bad.append(source)
        for metric, value in metrics.items():
            said = f"{card.metrics[metric]:.4f}" if metric in card.metrics else ""
            table.add_row(
                card.name,
                metric,
                said,
                f"{value:.4f}",
                "differs" if metric in off else "",
                style="red" if metric in off else None,
            )
    console.print(table)
    if bad:
        raise ZooError(f"not what the card says: {', '.join(bad)}")


@app.command()
def export(
    name: Name,
    format: Annotated[str, typer.Option(help="onnx or torch_export.")] = "onnx",
    output: Annotated[Path | None, typer.Option(help="The file to write; NAME.onnx or NAME.pt2 here.")] = None,
    trust: Trust = None,
) -> None:
    """Write a model for other programs, with any batch size, and check its outputs against the original's."""
    from zoo.export import export as write

    path, difference = write(name, format, output, trust or ())
    console.print(f"{path}: largest difference of an output {difference:.1e}")


@app.command()
def publish(
    name: str, runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs, one a seed.")]
) -> None:
    """For maintainers: make NAME's shipped weights and card from finished runs; the first run's weights are shipped."""
    from zoo.publish import publish as write

    card = write(name, runs)
    mean, spread = card.mean_and_spread("accuracy")
    console.print(f"{name}: {card.metrics['accuracy']:.4f}; over {len(card.runs)} seeds {mean:.4f} ± {spread:.4f}")


@app.command()
def results(
    write: Annotated[Path | None, typer.Option(help="Write it to this file instead of showing it.")] = None,
) -> None:
    """The table of all results, made from the cards: RESULTS.md."""
    from zoo.publish import results_table

    if write:
        write.write_text(results_table(), encoding="utf-8")
    else:
        print(results_table())


def main() -> None:
    """Run a command; an error is one line on stderr and exit code 1."""
    try:
        app()
    except ZooError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
