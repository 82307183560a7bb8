"""The command ``zoo``: list, info, train, predict, sample, reconstruct, evaluate, export, publish, results …

Imports of torch stand inside the commands, so that ``--help``, ``list`` and completion answer at once.
"""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from zoo.card import Card, shipped, show
from zoo.errors import ZooError
from zoo.registry import list_models

app = typer.Typer(
    help="A reference model zoo: trained models to look at, use and train again.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
console = Console(highlight=False, soft_wrap=True, markup=False)  # [head] in a name is no style


def complete_name(incomplete: str) -> list[str]:
    return [name for name in shipped() if name.startswith(incomplete)]


def complete_any(incomplete: str) -> list[str]:
    return [name for name in [*shipped(), *list_models()] if name.startswith(incomplete)]


Name = Annotated[str, typer.Argument(help="A shipped name (zoo list) or a checkpoint.", autocompletion=complete_name)]
AnyName = Annotated[
    str, typer.Argument(help="A shipped name or a model (zoo list), or a checkpoint.", autocompletion=complete_any)
]
Trust = Annotated[list[str] | None, typer.Option(help="A module of your own that the checkpoint's model is in.")]


@app.command("list")
def list_() -> None:
    """The models there are, and the weights shipped with them."""
    console.print(f"models (zoo.create, model=…): {', '.join(list_models())}")
    whole = {"no_wrap": True, "overflow": "ignore"}  # names are there to be copied
    table = Table(Column("weights", **whole), "data", "parameters", "test", "", box=SIMPLE)
    for card in (Card.read(path) for path in shipped().values()):
        data = str(card.data.get("name", ""))
        table.add_row(card.name, data, f"{card.parameters:,}", card.headline(), card.title)
    console.print(table)


@app.command()
def info(name: AnyName, trust: Trust = None) -> None:
    """What a weight is: its card; of a model, its config; and the layers of both: the shapes of their outputs,
    parameters, multiply-adds, and receptive fields with the pixels from one to the next (jump)."""
    from zoo.pretrained import example, load, model_config
    from zoo.profile import layer_table

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
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list on stdout.")] = False,
    trust: Trust = None,
) -> None:
    """Classify images: the most probable classes of each. Files that are no images are named, and the rest go on."""
    from zoo.predict import predict_files

    results, errors = predict_files(name, images, top, invert, trust or ())
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
def sample(
    name: Annotated[
        str, typer.Argument(help="A model of text or images: shipped, or a checkpoint.", autocompletion=complete_name)
    ] = "lstm_shakespeare",
    prompt: Annotated[str, typer.Option(help="Text: what it goes on with.")] = "",
    length: Annotated[int, typer.Option(min=1, help="Tokens to draw.")] = 500,
    temperature: Annotated[float, typer.Option(min=0, help="0: the most probable token always; 1: as expected.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(min=1, help="Draw among so many of the most probable.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw among those that together have this probability.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The same one gives the same text.")] = 0,
    n: Annotated[int, typer.Option("-n", min=1, help="Images: how many.")] = 64,
    out: Annotated[Path, typer.Option(help="Images: the picture to write.")] = Path("samples.png"),
    label: Annotated[str | None, typer.Option("--class", help="Images: of this class, by name or number.")] = None,
    trust: Trust = None,
) -> None:
    """Write a text with a language model, as it comes; or draw images with a model of images, as one picture."""
    from zoo.data.tokens import Words
    from zoo.pretrained import load
    from zoo.sample import encoded_prompt, text_of
    from zoo.sample import sample as draw

    model: Any = load(name, trust or ())
    tokenizer = model.preprocess
    if not hasattr(tokenizer, "encode"):
        return draw_grid(name, model, n, seed, label, out)
    unknown = [] if tokenizer.unknown is None else [tokenizer.unknown]
    tokens = draw(
        model, encoded_prompt(tokenizer, prompt), length, temperature, top_k, top_p, forbidden=unknown, seed=seed
    )
    apart = isinstance(tokenizer, Words) and bool(prompt) and not prompt[-1].isspace()
    print(prompt, end=" " if apart else "", flush=True)
    for part in text_of(tokenizer, tokens):
        print(part, end="", flush=True)
    print()


def draw_grid(name: str, model: Any, n: int, seed: int, label: str | None, out: Path) -> None:
    """The images of ``zoo sample``."""
    from rich.progress import Progress

    from zoo.pictures import draw, save_grid

    number = None
    if label is not None:
        names = [str(c) for c in model.classes]
        if label not in names and not (label.isdigit() and int(label) < len(names)):
            raise ZooError(f"--class={label}: no class of {name} is called that; it has {', '.join(names)}")
        number = names.index(label) if label in names else int(label)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("drawing", total=None)
        images = draw(model, n, seed, number, lambda done, total: bar.update(task, completed=done, total=total))
    save_grid(images, out, columns=max(1, round(n**0.5)), scale=2)
    console.print(f"{out}: {n} images, seed {seed}")


@app.command()
def reconstruct(
    name: Name,
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    out: Annotated[Path, typer.Option(help="The picture to write: the images, and below what the model makes.")] = Path(
        "reconstructions.png"
    ),
    invert: Annotated[bool, typer.Option("--invert", help="Swap dark and light: ink on paper for MNIST.")] = False,
    trust: Trust = None,
) -> None:
    """Give back images from their codes, with an autoencoder."""
    import torch

    from zoo.pictures import reconstruct as give_back
    from zoo.pictures import save_grid
    from zoo.pretrained import load

    x, output = give_back(load(name, trust or ()), images, invert)
    save_grid(torch.cat([x, output]), out, columns=len(x), scale=4)
    for file, error in zip(images, (output - x).square().flatten(1).mean(1).tolist(), strict=True):
        console.print(f"{file}: mean squared error {error:.4f} a pixel")
    console.print(str(out))


@app.command()
def interpolate(
    name: Name,
    images: Annotated[list[Path] | None, typer.Argument(help="Two image files; none: two that it draws.")] = None,
    steps: Annotated[int, typer.Option(min=2, help="Images on the way, with both ends.")] = 10,
    rows: Annotated[int, typer.Option(min=1, help="Ways, where it draws both ends.")] = 8,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The same one gives the same ways.")] = 0,
    out: Annotated[Path, typer.Option(help="The picture to write.")] = Path("interpolation.png"),
    trust: Trust = None,
) -> None:
    """Walk from one image to another through a model's codes."""
    import torch

    from zoo.pictures import interpolate as walk
    from zoo.pictures import save_grid
    from zoo.pretrained import load

    model: Any = load(name, trust or ())
    if images:
        if len(images) != 2 or not hasattr(model, "encode"):
            raise ZooError("give two images, for a model that encodes images; or none, for one that draws them")
        with torch.inference_mode():
            a, b = (model.encode(model.preprocess(model.preprocess.read(file))) for file in images)
        pictures = walk(model, a, b, steps, noise=False)
    else:
        if not hasattr(model, "latent"):
            raise ZooError(f"{name} draws no images from a code; give it two images, if it encodes them")
        ends = model.noise(2 * rows, torch.Generator().manual_seed(seed)).split(2)
        classes = getattr(model, "num_classes", None) or 1  # a row a class, where it is conditional
        ways = [walk(model, pair[:1], pair[1:], steps, True, row % classes) for row, pair in enumerate(ends)]
        pictures = torch.cat(ways)
    save_grid(pictures, out, columns=steps, scale=2)
    console.print(str(out))


@app.command()
def evaluate(
    name: Annotated[
        str | None, typer.Argument(help="A shipped name or a checkpoint.", autocompletion=complete_name)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All shipped weights.")] = False,
    root: Annotated[str | None, typer.Option(help="The folder of the data.")] = None,
    text: Annotated[Path | None, typer.Option(help="Measure a language model on this file instead.")] = None,
    trust: Trust = None,
) -> None:
    """Measure again on the official test split; the exit code is 1 where it is not what the card says."""
    from zoo.evaluate import evaluate as measure_again
    from zoo.evaluate import measure_text

    if everything == (name is not None):
        raise ZooError("give a name, or --all")
    if text is not None:
        if everything:
            raise ZooError("--text is for one model; give its name")
        from zoo.pretrained import load

        model: Any = load(str(name), trust or ())
        table = Table("metric", str(text))
        for metric, value in measure_text(model, model.card, text, trust or ()).items():
            table.add_row(metric, show(metric, value))
        console.print(table)
        return
    sources = list(shipped()) if everything else [str(name)]
    if not sources:
        raise ZooError("no weights are shipped here, so there is nothing to evaluate")
    table = Table(Column("weights", no_wrap=True), "metric", "card", "measured", "")
    bad: list[str] = []
    for source in sources:
        try:
            card, metrics, off = measure_again(source, root, trust or ())
        except Exception as error:
            if not everything:
                raise
            bad.append(source)
            print(f"error: {one_line(error)}", file=sys.stderr)
            continue
        if off:
            bad.append(source)
        for metric, value in (metrics | off).items():
            said = show(metric, card.metrics[metric]) if metric in card.metrics else ""
            verdict, style = ("differs", "red") if metric in off else ("", None)
            table.add_row(card.name, metric, said, show(metric, value), verdict, style=style)
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
    name: str,
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs, one a seed.")],
    note: Annotated[str, typer.Option(help="Said of minutes and hardware on the card.")] = "",
    half: Annotated[bool, typer.Option("--half", help="Weights in half precision on disk.")] = False,
) -> None:
    """For maintainers: make NAME's shipped weights and card from finished runs; the first run's weights are shipped."""
    from zoo.publish import publish as write

    card = write(name, runs, note, half)
    mean, spread = (show(card.metric, value) for value in card.mean_and_spread(card.metric))
    console.print(f"{name}: {card.headline()}; over {len(card.runs)} seeds {mean} ± {spread}")


@app.command()
def results(
    write: Annotated[Path | None, typer.Option(help="Write it to this file instead of showing it.")] = None,
    readme: Annotated[bool, typer.Option("--readme", help="Make the table in ./README.md anew instead.")] = False,
) -> None:
    """The table of all results, made from the cards: RESULTS.md."""
    from zoo.publish import readme_with_table, results_table

    if readme:
        page = Path("README.md")
        page.write_text(readme_with_table(page.read_text(encoding="utf-8")), encoding="utf-8")
    elif write:
        write.write_text(results_table(), encoding="utf-8")
    else:
        print(results_table())


def one_line(error: Exception) -> str:
    """What went wrong; for an error that nobody foresaw also how to see where it came from."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    from zoo.explain import message

    line, foreseen = message(error)
    return line if foreseen else f"{line} (the traceback: ZOO_TRACEBACK=1 zoo …)"


def main() -> None:
    """Run a command; an error is one line on stderr and exit code 1."""
    sys.path.append(os.getcwd())  # the user's own modules; last, so that no file lying here stands in for a library
    try:
        app()
    except Exception as error:
        if os.environ.get("ZOO_TRACEBACK"):
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(1)
