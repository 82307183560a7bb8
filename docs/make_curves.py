"""Makes the curve of the page of a shipped weight, docs/weights/NAME_curve.png and its numbers, NAME_curve.csv.

python train.py experiment=lenet5_mnist
python docs/make_curves.py lenet5_mnist logs/lenet5_mnist/DATE
"""

import csv
from pathlib import Path
from typing import Annotated

import typer
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from zoo.pretrained.card import Card
from zoo.pretrained.card import shipped as paths

FOLDER = Path(__file__).resolve().parent / "weights"


def points(events: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(p.step, p.value) for p in events.Scalars(tag)] if tag in events.Tags()["scalars"] else []


def main(
    name: Annotated[str, typer.Argument(help="The name of the shipped weights.")],
    run: Annotated[Path, typer.Argument(help="The folder of a run of their command.")],
) -> None:
    """The most important metric of the card, and the loss, in training and validation."""
    card = Card.read(paths()[name])
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    metrics = dict.fromkeys(("loss", card.metric))
    found = {
        f"{part}/{metric}": curve
        for metric in metrics
        for part in ("train", "val")
        if (curve := points(events, f"{part}/{metric}"))
    }
    shown = [metric for metric in metrics if any(tag.endswith(f"/{metric}") for tag in found)]
    if not shown:
        raise typer.BadParameter(f"{run} has logged neither {' nor '.join(metrics)}, so there is no curve to draw")
    figure = Figure(figsize=(4.2 * len(shown), 2.8), dpi=72, layout="constrained")
    for i, metric in enumerate(shown):
        axes = figure.add_subplot(1, len(shown), i + 1)
        for part, label in (("train", "training"), ("val", "validation")):
            if curve := found.get(f"{part}/{metric}"):
                axes.plot(*zip(*curve, strict=True), label=label, linewidth=1.2, marker="" if len(curve) > 1 else "o")
        axes.set(title=metric, xlabel="update")
        values = sorted(value for tag, curve in found.items() if tag.endswith(f"/{metric}") for _, value in curve)
        first = len(values) // 50  # the first steps would squeeze the others
        axes.set_ylim(values[first], values[-1 - first]) if len(values) > 100 else None
        axes.legend()
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / f"{name}_curve.png")
    with (FOLDER / f"{name}_curve.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["metric", "update", "value"])
        writer.writerows([tag, step, f"{value:.5g}"] for tag, curve in found.items() for step, value in curve)


if __name__ == "__main__":
    typer.run(main)
