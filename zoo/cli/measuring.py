"""The commands that measure and publish models: evaluate, export, publish and results."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table
from rich.text import Text

from zoo.cli.base import Name, Trust, app, complain, complete_name, console, one_line
from zoo.console import Console
from zoo.errors import ZooError
from zoo.pretrained.card import read_shipped, shipped, show
from zoo.terminal import clean, say


@app.command()
def evaluate(
    name: Annotated[
        str | None, typer.Argument(help="A shipped name or a checkpoint.", autocompletion=complete_name)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All shipped weights.")] = False,
    root: Annotated[str | None, typer.Option(help="The folder of the data.")] = None,
    text: Annotated[Path | None, typer.Option(help="Measure a language model on this file instead.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Measure only the first test examples, in seconds; compare with the card.")
    ] = False,
    trust: Trust = None,
) -> None:
    """Measure weights again on the official test split; the exit code is 1 if a result differs from the card."""
    from zoo.pretrained.evaluate import evaluate as measure_again
    from zoo.pretrained.evaluate import measure_text

    if everything == (name is not None):
        raise ZooError("give a name, or --all")
    if text is not None:
        if everything:
            raise ZooError("--text is for one model; give its name")
        if quick:
            raise ZooError("--text measures the whole file; leave --quick out")
        from zoo.pretrained.loading import load

        model: Any = load(str(name), trust or ())
        table = Table("metric", str(text))
        for metric, value in measure_text(model, model.card, text, trust or ()).items():
            table.add_row(metric, show(metric, value))
        console.print(table)
        return
    sources = list(shipped()) if everything else [str(name)]
    if not sources:
        raise ZooError("no weights are shipped here, so there is nothing to evaluate")
    examples = [Column("first", justify="right")] if quick else []
    table = Table(Column("weights", no_wrap=True), *examples, "metric", "card", "measured", "")
    bad: list[str] = []
    for source in sources:
        try:
            doing = Text(f"measuring {clean(source)} …")
            with Console(stderr=True).status(doing):  # shown in a terminal only; a test may take minutes
                card, metrics, off = measure_again(source, root, trust or (), quick)
        except Exception as error:
            if not everything:
                raise
            bad.append(source)
            say(f"error: {one_line(error)}")
            continue
        if off:
            bad.append(source)
        for metric, value in (metrics | off).items():
            known = card.quick_metrics if quick else card.metrics
            said = show(metric, known[metric]) if metric in known else ""
            verdict, style = ("differs", "red") if metric in off else ("", None)
            many = [f"{card.quick_examples:,}"] if quick else []
            table.add_row(card.name, *many, metric, said, show(metric, value), verdict, style=style)
    console.print(table)
    if bad:
        raise ZooError(f"not what the card says: {', '.join(bad)}")


@app.command()
def export(
    name: Name,
    format: Annotated[str, typer.Option(help="onnx or torch_export.")] = "onnx",
    output: Annotated[
        Path | None, typer.Option("--output", "--out", help="The file to write; default: NAME.onnx or NAME.pt2.")
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(help="whole; encoder or decoder of an autoencoder; generator or discriminator of a GAN."),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="For classifiers of images, as ONNX: 8-bit weights, and what they cost.")
    ] = False,
    examples: Annotated[int, typer.Option(min=0, help="With --int8: the first test images measured; 0: all.")] = 2000,
    root: Annotated[str | None, typer.Option(help="With --int8: the folder of the data.")] = None,
    trust: Trust = None,
) -> None:
    """Export a model for other programs, for any batch size and length, and compare its outputs with the original's."""
    if int8:
        if format != "onnx" or part is not None:
            raise ZooError("--int8 writes whole classifiers as ONNX; leave --format and --part out")
        from zoo.use.int8 import export_int8

        made = export_int8(name, output, trust or (), examples, root)
        table = Table("", "accuracy", "bytes", title=f"{clean(str(made.path))}, first {made.examples:,} test images")
        table.add_row("float", show("accuracy", made.float_accuracy), f"{made.float_size:,}")
        table.add_row("int8", show("accuracy", made.accuracy), f"{made.size:,}")
        console.print(table)
        return
    from zoo.use.export import export as write

    path, difference = write(name, format, output, trust or (), part)
    console.print(f"{path}: largest difference of an output {difference:.1e}")


@app.command()
def calibrate(
    name: Name,
    output: Annotated[
        Path | None, typer.Option("--output", "--out", help="The picture to write; default: NAME_reliability.png.")
    ] = None,
    root: Annotated[str | None, typer.Option(help="The folder of the data.")] = None,
    trust: Trust = None,
) -> None:
    """Draw how often a classifier is right at each confidence, and fit the temperature that corrects the confidence."""
    from zoo.use.calibrate import calibrate as measure

    path = output or Path(f"{Path(name).stem}_reliability.png")
    found = measure(name, path, trust or (), root)
    table = Table("on the test split", "calibration error", "loss", title=clean(str(path)), title_justify="left")
    table.add_row("as trained", show("calibration_error", found.error), show("loss", found.loss))
    if found.temperature is not None and found.scaled_error is not None and found.scaled_loss is not None:
        error, loss = show("calibration_error", found.scaled_error), show("loss", found.scaled_loss)
        table.add_row(f"with temperature {found.temperature:.3f}", error, loss)
    console.print(table)
    if found.scaled_error is None:
        console.print("no temperature: the model was trained on all training images, so no validation split is left")
    elif found.scaled_error > found.error:
        console.print("this temperature does not help: the validation split may have too few images to fit it")


@app.command()
def publish(
    name: str,
    runs: Annotated[list[Path] | None, typer.Argument(help="Folders of finished runs, one per seed.")] = None,
    note: Annotated[str, typer.Option(help="Remark on the card, about minutes and hardware.")] = "",
    half: Annotated[bool, typer.Option("--half", help="Store the weights in half precision.")] = False,
    add: Annotated[bool, typer.Option("--add", help="Keep the shipped weights; add these seeds to the card.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Without runs: measure the shipped weights' first test examples again.")
    ] = False,
    typical: Annotated[
        bool,
        typer.Option(
            "--typical", help="Without runs: measure what the shipped weights give for training images again."
        ),
    ] = False,
) -> None:
    """Make NAME's shipped weights and card from finished runs; the first run's weights are shipped."""
    from zoo.run import publish as publishing

    if quick + typical + bool(runs) != 1:
        raise ZooError(
            "give the folders of finished runs; or --quick or --typical to measure the shipped weights again"
        )
    if typical:
        limits = publishing.refresh_typical(name).typical
        console.print(f"{name}: typical distances up to {limits['distance']}, energies up to {limits['energy']}")
        return
    if quick:
        card = publishing.refresh_quick(name)
        shown = ", ".join(f"{metric} {show(metric, value)}" for metric, value in card.quick_metrics.items())
        console.print(f"{name}: first {card.quick_examples:,} test examples: {shown}")
        return
    runs = runs or []
    card = publishing.add(name, runs, note) if add else publishing.publish(name, runs, note, half)
    mean, spread = (show(card.metric, value) for value in card.mean_and_spread(card.metric))
    console.print(f"{name}: {card.headline()}; over {len(card.runs)} seeds {mean} ± {spread}")


@app.command()
def results(
    write: Annotated[Path | None, typer.Option(help="Write the table to this file instead of showing it.")] = None,
    readme: Annotated[
        bool, typer.Option("--readme", help="Update the tables in ./README.md and ./docs/shipped.md instead.")
    ] = False,
) -> None:
    """Show the table of all results, made from the cards (RESULTS.md). Cards that cannot be read are reported, and the
    others shown; a file is written only if all can be read."""
    from zoo.pretrained.results import family_rows, page_with_table, results_table, shipped_rows

    cards, errors = read_shipped()
    if errors and (readme or write):
        pass
    elif readme:
        tables = {Path("README.md"): family_rows(cards), Path("docs/shipped.md"): shipped_rows(cards)}
        texts = {
            page: page_with_table(page.read_text(encoding="utf-8"), rows, str(page)) for page, rows in tables.items()
        }
        for page, text in texts.items():  # only now, when both are known to have their marks
            page.write_text(text, encoding="utf-8")
    elif write:
        write.write_text(results_table(cards), encoding="utf-8")
    else:
        print(clean(results_table(cards), keep="\n"), end="")
    complain(errors)
