"""What ``compile=true``, ``channels_last=true`` and bfloat16 do to our epoch, for LeNet-5 and ResNet-20.

Runs of ``python train.py`` with each of the settings take turns. A run's first epoch, in which torch compiles, is
not counted, but its seconds are shown. Colour images lie channels_last in memory to begin with, and torch's
convolutions keep that; the switch changes the weights' layout, and the layout of grey images' activations.
"""

import statistics
from typing import Annotated, Any

import torch
import typer
from timing import Clock, Json, ratio, run, show

NETS = {
    "lenet5": ["data=mnist", "data.batch_size=256"],
    "resnet20": ["model=resnet20", "data=cifar10_small", "data.batch_size=128"],
}
SETTINGS = {
    "neither": [],
    "channels_last": ["channels_last=true"],
    "compile": ["compile=true"],
    "channels_last, compile": ["channels_last=true", "compile=true"],
    "bf16": ["trainer.precision=bf16-mixed"],
    "bf16, channels_last": ["trainer.precision=bf16-mixed", "channels_last=true"],
    "bf16, channels_last, compile": ["trainer.precision=bf16-mixed", "channels_last=true", "compile=true"],
}


def main(
    net: Annotated[str, typer.Option(help="lenet5, resnet20 or all")] = "all",
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each, in turn.")] = 2,
    epochs: Annotated[int, typer.Option(min=2, help="Of each run; the first is not counted.")] = 3,
    images: Annotated[int, typer.Option(min=1, max=400, help="Training images of each class.")] = 256,
    json: Json = None,
) -> None:
    """Epochs with each of the settings, ratios to an epoch with neither."""
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
    show(f"compile, channels_last and bfloat16, epochs of {10 * images} images", rows, json)


if __name__ == "__main__":
    typer.run(main)
