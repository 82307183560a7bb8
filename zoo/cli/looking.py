"""The commands that show how models work: explain and demo."""

from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cli.base import Invert, Name, Trust, app, class_number, console
from zoo.errors import ZooError
from zoo.terminal import say

# the parameters of zoo explain that need an image, and those that are for images made for units
OF_IMAGE = ("label", "invert")
OF_UNITS = ("unit", "steps", "seed")


@app.command()
def explain(
    name: Name,
    image: Annotated[
        Path | None, typer.Argument(help="An image file; leave it out to draw what units respond to.")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--class", help="The class to explain, by name or number; default: the most probable.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="The layer for Grad-CAM or, without an image, of the units (zoo info NAME).")
    ] = None,
    unit: Annotated[
        list[int] | None, typer.Option(help="Without an image: a unit or feature map to draw; may be repeated.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Without an image: steps of gradient ascent.")] = 256,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Without an image: the seed of the noise.")] = 0,
    out: Annotated[Path, typer.Option(help="The picture file to write.")] = Path("explanation.png"),
    invert: Invert = False,
    trust: Trust = None,
    *,
    context: typer.Context,
) -> None:
    """Show what a model looks at, as a picture. With an image: the pixels and regions on which its class depends
    (saliency, integrated gradients and Grad-CAM). Without one: images made to activate units of a layer most."""
    from zoo.pretrained.loading import load
    from zoo.pretrained.transfer import head_names
    from zoo.use import explanation

    if image is None and layer is None and unit is None:
        raise ZooError(f"give an image to explain, or --layer to see what its units respond to (zoo info {name})")
    others = OF_IMAGE if image is None else OF_UNITS
    given = [o for o in context.command.params if context.get_parameter_source(o.name).name == "COMMANDLINE"]  # type: ignore[union-attr, arg-type]
    if useless := [option.opts[0] for option in given if option.name in others]:
        needs = "needs an image to explain" if image is None else "is for units, which need no image"
        raise ZooError(f"{', '.join(useless)} {needs}; leave one of the two out")
    model: Any = load(name, trust or ())
    if image is None:
        layer = layer or (head_names(model) or ["head"])[0]
        units, silent = explanation.explain_units(model, layer, unit, out, steps, seed)
        console.print(f"{out}: {layer}, units {', '.join(map(str, units))}, seed {seed}")
        if silent:
            which = ", ".join(map(str, silent))
            say(f"note: units {which} stayed at 0; a ReLU has no gradient there, so name the layer before it")
        return
    number = None if label is None else class_number(name, model.classes, label)
    shown = explanation.explain(model, image, out, number, layer, invert)
    methods = "saliency, integrated gradients" + (f", Grad-CAM of {shown.layer}" if shown.layer else "")
    console.print(f"{out}: {model.classes[shown.number]} {shown.probability:.1%}; {methods}")
    if shown.layer is None:
        say(f"note: there is no Grad-CAM, because no layer of {name} has a map of the image")


@app.command()
def demo(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The port of the page; default: the first free one from 7860.")
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
) -> None:
    """Open a page in the browser: draw a digit and see features light up, move through a VAE's codes, and let
    Shakespeare continue your line. Only this machine can reach it. Needs pip install 'reference-zoo[demo]'."""
    from zoo.use.demo import serve

    blocks, address = serve(port, browser)
    console.print(f"{address} (Ctrl+C ends it)")
    blocks.block_thread()
