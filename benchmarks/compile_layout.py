"""What ``compile=true`` and ``channels_last=true`` do to our epoch, for LeNet-5 and for a net of ResNet-20's size.

Runs of ``python train.py`` with each of the four settings take turns. A run's first epoch, in which torch compiles, is
not counted, but its seconds are shown. Colour images lie channels_last in memory to begin with, and torch's
convolutions keep that; the switch changes the weights' layout, and the layout of grey images' activations.
"""

import statistics
from typing import Annotated, Any

import torch
import typer
from resnet20 import RESNET20
from timing import Clock, Json, ratio, run, show

NETS = {"lenet5": ["data=mnist", "data.batch_size=256"], "resnet20": list(RESNET20)}
SETTINGS = {
    "neither": [],
    "channels_last": ["channels_last=true"],
    "compile": ["compile=true"],
    "both": ["channels_last=true", "compile=true"],
}


def main(
    net: Annotated[str, typer.Option(help="lenet5, resnet20 or all")] = "all",
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each, in turn.")] = 2,
    epochs: Annotated[int, typer.Option(min=2, help="Of each run; the first is not counted.")] = 3,
    images: Annotated[int, typer.Option(min=1, max=400, help="Training images of each class.")] = 256,
    json: Json = None,
) -> None:
    """Epochs with compile and channels_last, ratios to an epoch without."""
    rows: list[dict[str, Any]] = []
    for name in NETS if net == "all" else [net]:
        shared = [*NETS[name], f"trainer.max_epochs={epochs}", f"data.labels_per_class={images}", "test=false"]
        clocks: dict[str, list[Clock]] = {setting: [] for setting in SETTINGS}
        for _ in range(repeats):
            for setting, overrides in SETTINGS.items():
                torch.compiler.reset()
                clocks[setting].append(run([*shared, *overrides]))
        seconds = {setting: [s for c in found for s in c.seconds[1:]] for setting, found in clocks.items()}
        for setting in SETTINGS:
            rows.append(
                {
                    "net": name,
                    "setting": setting,
                    "first epoch, s": clocks[setting][0].seconds[0],
                    "an epoch, s": statistics.median(seconds[setting]),
                    **ratio(seconds[setting], seconds["neither"]),
                }
            )
    show(f"compile and channels_last, epochs of {10 * images} images", rows, json)


if __name__ == "__main__":
    typer.run(main)
