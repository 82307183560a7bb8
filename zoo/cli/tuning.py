"""The command that prepares a training: lr."""

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.base import app, console


@app.command()
def lr(
    words: Annotated[
        list[str] | None, typer.Argument(help="An experiment (lenet5_mnist), or overrides as for train (model=mlp …).")
    ] = None,
    lowest: Annotated[float, typer.Option("--min", help="The first learning rate.")] = 1e-6,
    highest: Annotated[float, typer.Option("--max", help="The last learning rate.")] = 10.0,
    steps: Annotated[int, typer.Option(min=20, help="The number of updates from the first to the last.")] = 100,
    out: Annotated[Path, typer.Option(help="The picture file to write: the loss over the rate.")] = Path("lr.png"),
) -> None:
    """Suggest a learning rate with a range test: train while the rate rises until the loss diverges."""
    from zoo.use.lr import plot, range_test

    result = range_test(words or (), lowest, highest, steps)
    plot(result, out)
    console.print(f"suggestion   optimizer.lr={result.suggestion:.2g}, where the loss falls fastest")
    console.print(f"picture      {out}")
