"""Makes docs/run.png, README's picture, from what a run wrote for TensorBoard.

python train.py experiment=lenet5_mnist
python docs/run.py logs/lenet5_mnist/DATE
"""

import io
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def curve(axes: Axes, events: EventAccumulator, tag: str, label: str, smooth: int = 1) -> None:
    points = events.Scalars(tag)
    values = np.convolve([p.value for p in points], np.ones(smooth) / smooth, mode="valid")
    axes.plot([p.step for p in points][smooth - 1 :], values, label=label, linewidth=1.2)


def picture(axes: Axes, events: EventAccumulator, tag: str, title: str) -> None:
    image: Any = Image.open(io.BytesIO(events.Images(tag)[-1].encoded_image_string))
    axes.imshow(image)
    axes.set_title(title)
    axes.axis("off")


def main(run: Annotated[Path, typer.Argument(help="The folder of a run.")]) -> None:
    """Curves, gradient norms, kernels, confusion matrix and mistakes of one run, in one picture."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0}).Reload()
    figure = Figure(figsize=(13, 6.6), dpi=90, layout="constrained")
    grid = figure.add_gridspec(6, 3)

    axes = figure.add_subplot(grid[:3, 0])
    curve(axes, events, "train/loss", "training", smooth=9)
    curve(axes, events, "val/loss", "validation")
    axes.set(title="loss", ylim=(0, 0.3))
    axes.legend()
    axes = figure.add_subplot(grid[3:, 0])
    for tag in sorted(t for t in events.Tags()["scalars"] if t.startswith("grad_norm/")):
        curve(axes, events, tag, tag.removeprefix("grad_norm/"), smooth=9)
    axes.set(title="gradient norm of each layer", xlabel="update", yscale="log")
    axes.legend(ncols=3, fontsize=8)

    picture(figure.add_subplot(grid[:1, 1]), events, "kernels/first_layer", "first-layer kernels")
    picture(figure.add_subplot(grid[1:, 1]), events, "test/confusion_matrix", "confusion matrix")
    picture(figure.add_subplot(grid[:, 2]), events, "test/worst_mistakes", "worst mistakes")
    figure.savefig(Path(__file__).parent / "run.png")


if __name__ == "__main__":
    typer.run(main)
