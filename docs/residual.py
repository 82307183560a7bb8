"""Makes docs/residual.md and its plot from the folder of the sweep ``experiment=plain_and_residual``.

python train.py -m experiment=plain_and_residual
python docs/residual.py logs/plain_and_residual/sweep-DATE
"""

import csv
from pathlib import Path
from typing import Annotated

import typer
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from zoo.pretrained.reading import read_checkpoint

HERE = Path(__file__).parent
STYLES = {"plain20": ("C0", "--"), "plain56": ("C3", "--"), "resnet20": ("C0", "-"), "resnet56": ("C3", "-")}
TEXT = """# What shortcuts do

Lecture 16.3, after He et al. 2016, figure 6: plain networks of 20 and 56 layers, and the same networks with shortcuts.
The shortcuts have no parameters, so both networks of a depth have the same number of parameters. All four were trained
on 45,000 images of CIFAR-10 with the same settings: {epochs}
epochs (164 in the paper), and a learning rate that rises to 0.1 in the first tenth of the updates (without this, 56
layers with shortcuts diverged) and then falls along half a cosine. The curves show the errors on the 5,000 images held
out, and on the augmented training images; the latter is the mean over the current epoch so far.

```
python train.py -m experiment=plain_and_residual
python docs/residual.py logs/plain_and_residual/sweep-DATE
```

{table}

From 20 to 56 layers the validation error changes by {plain:+.1f} points without shortcuts and by {residual:+.1f} with
them, and the training error by {plain_training:+.1f} and {residual_training:+.1f}: the difficulty of a deep plain
network is its optimisation, not overfitting. With one seed each, differences of one point say little.
Hardware: {hardware}.

![Error by epoch](residual.png)
"""


def errors(run: Path, tag: str) -> list[float]:
    """The errors in per cent, from the logged accuracies."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    return [100 * (1 - point.value) for point in events.Scalars(tag)]


def minutes(run: Path) -> float:
    """The minutes of training, from the checkpoint's card."""
    return read_checkpoint(run / "checkpoints" / "last.ckpt")["card"]["minutes"]


def main(
    sweep: Annotated[Path, typer.Argument(help="The folder of the sweep.")],
    hardware: Annotated[str, typer.Option(help="The hardware of the runs.")] = "2 cores of an x86-64 CPU",
) -> None:
    """Read the runs; write residual.png and residual.md beside this file."""
    with (sweep / "sweep.csv").open() as file:
        runs = {row["model"]: (sweep / row["run"], row) for row in csv.DictReader(file)}
    figure = Figure(figsize=(9, 4), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    lines = ["| model | error, training | error, validation | error, test | minutes |", "|---|---:|---:|---:|---:|"]
    epochs = 0
    ends: dict[str, tuple[float, float]] = {}  # error in training and validation
    for model, (colour, style) in STYLES.items():
        folder, row = runs[model]
        held_out = errors(folder, "val/accuracy")
        epochs = len(held_out)
        training = errors(folder, "train/accuracy")
        ends[model] = training[-1], held_out[-1]
        steps = [epochs * (i + 1) / len(training) for i in range(len(training))]
        left.plot(steps, training, style, color=colour, label=model, linewidth=1.2)
        right.plot(range(1, epochs + 1), held_out, style, color=colour, label=model, linewidth=1.2)
        lines.append(
            f"| {model} | {training[-1]:.1f} % | {held_out[-1]:.1f} % "
            f"| {100 * (1 - float(row['accuracy'])):.1f} % | {minutes(folder):.0f} |"
        )
    left.set(title="training", xlabel="epoch", ylabel="error, %")
    right.set(title="validation", xlabel="epoch")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    right.legend()
    figure.savefig(HERE / "residual.png")
    deeper = {
        kind: [b - a for a, b in zip(ends[f"{kind}20"], ends[f"{kind}56"], strict=True)] for kind in ("plain", "resnet")
    }
    text = TEXT.format(
        epochs=epochs, table="\n".join(lines), hardware=hardware, plain=deeper["plain"][1],
        plain_training=deeper["plain"][0], residual=deeper["resnet"][1], residual_training=deeper["resnet"][0],
    )  # fmt: skip
    (HERE / "residual.md").write_text(text, encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
