"""The command that translates sentences."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cli.base import Name, Trust, app
from zoo.errors import ZooError
from zoo.terminal import write


@app.command()
def translate(
    name: Name,
    file: Annotated[
        Path | None, typer.Argument(help="A text file in UTF-8, a sentence in each line; - reads the standard input.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="The sentence to translate, in place of a file.")] = None,
    beam: Annotated[int, typer.Option(min=1, help="Beginnings that the search keeps; 1 is the fastest.")] = 5,
    alpha: Annotated[float, typer.Option(min=0, help="Exponent of the length in the score; more: longer.")] = 1.0,
    beta: Annotated[float, typer.Option(min=0, help="Weight of the coverage of the source sentence.")] = 0.0,
    batch: Annotated[int, typer.Option(min=1, help="Lines of a file that are translated together.")] = 32,
    attention: Annotated[
        Path | None, typer.Option(help="With --text: a picture file to write, of where the model looks.")
    ] = None,
    trust: Trust = None,
) -> None:
    """Translate a sentence, or a file line by line, as it comes; each line of the output is that of the same line of
    the input, and an empty line stays empty."""
    from zoo.pretrained.loading import load
    from zoo.use.translate import draw_attention, tokens_of, translate_lines

    if (text is None) == (file is None):
        raise ZooError("give either a sentence with --text, or a FILE (- for the standard input)")
    if attention is not None and text is None:
        raise ZooError("--attention is for one sentence: give it with --text")
    model: Any = load(name, trust or ())
    tokens_of(model)
    if text is not None and attention is not None:
        write(draw_attention(model, text, attention, beam, alpha, beta), end="\n")
        return
    lines = text.splitlines() or [""] if text is not None else lines_of(file)
    at_once = 1 if str(file) == "-" else batch  # whoever writes to the input may wait for each answer
    for line in translate_lines(model, lines, at_once, beam, alpha, beta):
        write(line, end="\n")


def lines_of(file: Path | None) -> Iterator[str]:
    """The lines of a file, or of the standard input for "-", without their ends.

    Raises:
        ZooError: the file cannot be read, or is not UTF-8.
    """
    if str(file) == "-":
        for line in sys.stdin:
            yield line.rstrip("\r\n")
        return
    from zoo.data.corpora import read_text

    assert file is not None
    for line in read_text(file).removesuffix("\n").split("\n"):
        yield line.rstrip("\r")
