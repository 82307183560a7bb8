"""Prediction: how long one image takes, and how many a second go through at batch 1024.

All take turns; each is the median of many calls, and a ratio to the bare call of the module on a tensor that is there
already. The file's way is what a program does that has loaded a model: read the PNG, normalise, run, softmax.
"""

import copy
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from PIL import Image
from timing import Json, in_turn, ratio, show
from torch import Tensor, nn

import zoo
from zoo.data.preprocess import Preprocess
from zoo.use.predict import predict_files


def model_of(name: str) -> Any:
    """A shipped model; where it is not there (yet), an untrained LeNet-5, which is as fast."""
    if name in zoo.list_weights():
        return zoo.load(name)
    typer.echo(f"{name} is not shipped here; an untrained lenet5 is measured")
    model: Any = zoo.create("lenet5").eval()
    model.preprocess = Preprocess(28, [0.1307], [0.3081])
    return model


def variants(model: nn.Module, compiled: bool) -> dict[str, Callable[[Tensor], Tensor]]:
    """The module as it is, and faster ones perhaps."""
    last: Any = copy.deepcopy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    found: dict[str, Callable[[Tensor], Tensor]] = {
        "bare call": model,
        "channels_last": lambda x: last(x.contiguous(memory_format=torch.channels_last)),
    }
    if compiled:
        found["compiled"] = torch.compile(model)
    return found


@torch.inference_mode()
def main(
    name: Annotated[str, typer.Option(help="A shipped model.")] = "lenet5_mnist",
    repeats: Annotated[int, typer.Option(min=1, help="Calls with one image; a tenth as many with a batch.")] = 500,
    batch: Annotated[int, typer.Option(min=1, help="Images a batch, for throughput.")] = 1024,
    compiled: Annotated[bool, typer.Option(help="Measure torch.compile too.")] = True,
    json: Json = None,
) -> None:
    """Latency of one image and throughput of many."""
    model = model_of(name)
    preprocess: Preprocess = model.preprocess
    calls = variants(model, compiled)
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        file = Path(folder) / "image.png"
        picture = torch.randint(0, 256, (preprocess.image_size,) * 2, dtype=torch.uint8)
        Image.fromarray(picture.numpy()).convert("L" if preprocess.channels == 1 else "RGB").save(file)
        x = preprocess(preprocess.read(file))
        one: dict[str, Callable[[], Any]] = {what: partial(call, x) for what, call in calls.items()}
        one["file to probabilities"] = lambda: model(preprocess(preprocess.read(file))).softmax(1)
        if name in zoo.list_weights():
            one["predict_files, with loading the weights"] = lambda: predict_files(name, [file])
        many = preprocess(torch.randint(0, 256, (batch, *x.shape[2:], x.shape[1]), dtype=torch.uint8))
        lots: dict[str, Callable[[], Any]] = {what: partial(call, many) for what, call in calls.items()}
        for n, group, times in ((1, one, repeats), (batch, lots, max(1, repeats // 10))):
            seconds = in_turn(group, times)
            for what, taken in seconds.items():
                middle = statistics.median(taken)
                row = {"images": n, "way": what, "ms": 1000 * middle, "images a second": f"{n / middle:,.0f}"}
                compared = ratio([middle], [statistics.median(seconds["bare call"])])["ratio"]
                tenths = statistics.quantiles(taken, n=10) if len(taken) > 1 else taken
                rows.append({**row, "10 to 90 %, ms": f"{1000 * tenths[0]:.3g} to {1000 * tenths[-1]:.3g}"})
                rows[-1]["/ bare call"] = compared
    show(f"inference, {name}", rows, json)


if __name__ == "__main__":
    typer.run(main)
