"""The commands that generate text and pictures: sample, tell, reconstruct and interpolate."""

from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cli.base import Invert, Name, Trust, app, class_number, complain, complete_name, console
from zoo.console import Console
from zoo.contracts import Encoder, Latent, classes_of, preprocess_of
from zoo.errors import ZooError
from zoo.terminal import say, write

# the parameters of zoo sample that are only for text, or only for images
OF_TEXT = ("prompt", "length", "temperature", "top_k", "top_p")
OF_IMAGES = ("n", "out", "label")


@app.command()
def sample(
    name: Annotated[
        str, typer.Argument(help="A model of text or images: a name or a checkpoint.", autocompletion=complete_name)
    ] = "lstm_shakespeare",
    prompt: Annotated[str, typer.Option(help="Text: the beginning, which the model continues.")] = "",
    length: Annotated[int, typer.Option(min=1, help="Text: number of tokens to draw.")] = 500,
    temperature: Annotated[
        float, typer.Option(min=0, help="Text: 0 takes the most probable token; 1 draws as the model predicts.")
    ] = 0.8,
    top_k: Annotated[int | None, typer.Option(min=1, help="Text: draw from this many most probable tokens.")] = None,
    top_p: Annotated[
        float | None,
        typer.Option(help="Text: nucleus sampling from the most probable tokens whose probabilities add up to P."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same text or images.")] = 0,
    n: Annotated[int, typer.Option("-n", min=1, help="Images: their number.")] = 64,
    out: Annotated[Path, typer.Option(help="Images: the picture file to write.")] = Path("samples.png"),
    label: Annotated[str | None, typer.Option("--class", help="Images: only of this class, by name or number.")] = None,
    trust: Trust = None,
    *,
    context: typer.Context,
) -> None:
    """Write a text with a language model, token by token; or draw images with a model of images, in one picture."""
    from zoo.data.tokens import Tokenizer, Words
    from zoo.pretrained.loading import load
    from zoo.use.sample import encoded_prompt, text_of
    from zoo.use.sample import sample as draw

    model: Any = load(name, trust or ())
    tokenizer = model.preprocess
    writes = isinstance(tokenizer, Tokenizer)
    others = [option for option in context.command.params if option.name in (OF_IMAGES if writes else OF_TEXT)]
    if useless := [o.opts[0] for o in others if context.get_parameter_source(o.name).name == "COMMANDLINE"]:  # type: ignore[union-attr, arg-type]
        does, other = ("writes text", "images") if writes else ("draws images", "text")
        raise ZooError(f"{', '.join(useless)}: for a model of {other}, and {name} {does}")
    if not writes:
        return draw_grid(name, model, n, seed, label, out)
    unknown = [] if tokenizer.unknown is None else [tokenizer.unknown]
    begin = encoded_prompt(tokenizer, prompt)
    if prompt and unknown and (many := int((begin == unknown[0]).sum())):
        say(f"note: {name} does not know {many} of the {len(begin)} tokens of --prompt")
    tokens = draw(model, begin, length, temperature, top_k, top_p, forbidden=unknown, seed=seed)
    apart = isinstance(tokenizer, Words) and bool(prompt) and not prompt[-1].isspace()
    write(prompt, end=" " if apart else "")
    for part in text_of(tokenizer, tokens):
        write(part)
    write("", end="\n")


def draw_grid(name: str, model: Any, n: int, seed: int, label: str | None, out: Path) -> None:
    """Draw n images for ``zoo sample``, and save them in one picture."""
    from rich.progress import Progress

    from zoo.use.pictures import draw, save_grid

    number = None if label is None else class_number(name, model.classes, label)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("drawing", total=None)
        images = draw(model, n, seed, number, lambda done, total: bar.update(task, completed=done, total=total))
    save_grid(images, out, columns=max(1, round(n**0.5)), scale=2)
    console.print(f"{out}: {n} images, seed {seed}")


@app.command()
def reconstruct(
    name: Name,
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    out: Annotated[Path, typer.Option(help="The picture file to write: the images above, the model's below.")] = Path(
        "reconstructions.png"
    ),
    invert: Invert = False,
    trust: Trust = None,
) -> None:
    """Reconstruct images with an autoencoder. Files that are not images are reported and skipped."""
    import torch

    from zoo.pretrained.loading import load
    from zoo.use.pictures import reconstruct as give_back
    from zoo.use.pictures import save_grid

    files, x, output, errors = give_back(load(name, trust or ()), images, invert)
    save_grid(torch.cat([x, output]), out, columns=len(x), scale=4)
    for file, error in zip(files, (output - x).square().flatten(1).mean(1).tolist(), strict=True):
        console.print(f"{file}: mean squared error {error:.4f} per pixel")
    console.print(str(out))
    complain(errors)


@app.command()
def interpolate(
    name: Name,
    images: Annotated[list[Path] | None, typer.Argument(help="Two image files; without them, two are drawn.")] = None,
    steps: Annotated[int, typer.Option(min=2, help="Images per row, including both ends.")] = 10,
    rows: Annotated[int, typer.Option(min=1, help="Rows, if the model draws both ends.")] = 8,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same images.")] = 0,
    out: Annotated[Path, typer.Option(help="The picture file to write.")] = Path("interpolation.png"),
    trust: Trust = None,
) -> None:
    """Interpolate between two images through a model's codes."""
    import torch

    from zoo.pretrained.loading import load
    from zoo.use.pictures import interpolate as walk
    from zoo.use.pictures import save_grid
    from zoo.use.predict import read_files

    model: Any = load(name, trust or ())
    if images:
        if len(images) != 2 or not isinstance(model, Encoder):
            raise ZooError("give two images, for a model that encodes images; or none, for a model that draws them")
        preprocess = preprocess_of(model)
        read, errors = read_files(preprocess, images)
        if errors or len(read) != 2:
            raise ZooError(errors[0] if errors else "give two image files, and no folder")
        with torch.inference_mode():
            a, b = (model.encode(preprocess(image)) for _, image in read)
        pictures = walk(model, a, b, steps, noise=False)
    else:
        if not isinstance(model, Latent):
            raise ZooError(f"{name} draws no images from a code; give it two images, if it encodes them")
        ends = model.noise(2 * rows, torch.Generator().manual_seed(seed))[:, : model.latent].split(2)
        classes = classes_of(model) or 1  # if conditional, each row has another class
        ways = [walk(model, pair[:1], pair[1:], steps, True, row % classes) for row, pair in enumerate(ends)]
        pictures = torch.cat(ways)
    save_grid(pictures, out, columns=steps, scale=2)
    console.print(str(out))


@app.command()
def tell(
    name: Name,
    pictures: Annotated[list[Path], typer.Argument(help="Picture files, in the order of the story.")],
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same story.")] = 0,
    out: Annotated[Path, typer.Option(help="The page of pictures and sentences to write.")] = Path("story.html"),
    trust: Trust = None,
) -> None:
    """Tell a story of pictures: print a text for each, and write a page of the pictures and their texts."""
    from zoo.pretrained.loading import load
    from zoo.use.tell import tell_files, write_page

    texts = tell_files(name, load(name, trust or ()), pictures, seed)
    for text in texts:
        write(text, end="\n")
    write_page(pictures, texts, out)
    console.print(str(out))
