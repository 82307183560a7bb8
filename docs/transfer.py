"""Makes a study's page, plot and table from the folder of its sweep, for the experiments in ``STUDIES``.

python train.py -m experiment=mnist_to_fashion
python docs/transfer.py mnist_to_fashion logs/mnist_to_fashion/sweep-DATE
"""

import csv
import shutil
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated

import typer
from matplotlib.figure import Figure

HERE = Path(__file__).parent
ARMS = {"scratch": "from scratch", "frozen": "frozen features", "finetuned": "fine-tuned"}


@dataclass
class Study:
    """The parts of a study's page that differ between studies, except for the figures."""

    file: str  # name of page, plot and table in docs/
    title: str
    net: str
    task: str  # what the network learns
    source: str  # the weights that are copied
    updates: int
    found: str


STUDIES = {
    "mnist_to_fashion": Study(
        "transfer",
        "MNIST to Fashion-MNIST",
        "LeNet-5",
        "Fashion-MNIST",
        "lenet5_mnist",
        1000,
        "Copying gains nothing here: if all weights are trained, copied initial weights end where random ones do, and\n"
        "what LeNet-5 has learned about strokes does not tell garments apart if it is frozen. Transfer helps if the\n"
        "first task is the richer one; from digits to garments it is the other way round.",
    ),
    "cifar10_first_to_last": Study(
        "transfer_first_to_last",
        "the first five classes of CIFAR-10 to the last five",
        "ResNet-20",
        "dog, frog, horse, ship and truck",
        "resnet20_cifar10_first",
        500,
        "Copying helps at every number of labels, most if they are few. Fine-tuning gains 19 points over training\n"
        "from scratch at 50 labels per class, and still 11 at 500; frozen features gain 13 at 50, and little at 500,\n"
        "where the network has enough labels to learn features of its own.",
    ),
    "cifar10_last_to_first": Study(
        "transfer_last_to_first",
        "the last five classes of CIFAR-10 to the first five",
        "ResNet-20",
        "airplane, automobile, bird, cat and deer",
        "resnet20_cifar10_last",
        500,
        "Copying helps in this direction too: fine-tuning gains 18 points over training from scratch at 50 labels per\n"
        "class, and 16 at 500. With 10 it is no better than a new head on frozen features. These five classes (bird,\n"
        "cat and deer among them) are harder than the others, with any initial weights.",
    ),
    "cifar10_to_fashion": Study(
        "transfer_cifar10_to_fashion",
        "CIFAR-10 to Fashion-MNIST",
        "ResNet-20",
        "Fashion-MNIST (its first convolution adapted to grey)",
        "resnet20_cifar10",
        500,
        "Photographs help to learn garments, although these are grey and have no background: fine-tuning gains 4 to 7\n"
        "points over training from scratch. Frozen features of photographs are worse than features learned from ten\n"
        "garments per class. The gains are smaller than between the halves of CIFAR-10, whose tasks are more alike.",
    ),
}
TEXT = """# Transfer from {study.title}

Lecture 16.7: copy the weights learned for task A to a network for task B. {study.net} learns {study.task} from
{labels} labels per class in three ways: (a) from scratch, (b) by training only a new head on the frozen features of
[`{study.source}`](../zoo/weights/{study.source}.json), and (c) by fine-tuning all of
these weights. Each of the {runs} runs makes {study.updates:,} updates with the same settings, which were not tuned for
any of the three ways, and is measured once on the official test split, after the last update.

```
python train.py -m experiment={experiment}
python docs/transfer.py {experiment} logs/{experiment}/sweep-DATE
```

Test accuracy in per cent, mean ± standard deviation over {seeds} seeds (each draws its own labels); every run is a row
of [{study.file}.csv]({study.file}.csv). Hardware: {hardware}.

{table}

{study.found}

![Accuracy against labels per class]({study.file}.png)
"""


def main(
    experiment: Annotated[str, typer.Argument(help=", ".join(STUDIES))],
    sweep: Annotated[Path, typer.Argument(help="The folder of the sweep.")],
    hardware: Annotated[str, typer.Option(help="What it ran on.")] = "2 cores of an x86-64 CPU",
) -> None:
    """Read sweep.csv; write the table, plot and page beside this file. Failed runs are left out."""
    study = STUDIES[experiment]
    failed = 0
    accuracy: dict[tuple[str, int], list[float]] = defaultdict(list)
    with (sweep / "sweep.csv").open() as file:
        for row in csv.DictReader(file):
            if row["test/accuracy"]:
                accuracy[row["init"], int(row["data.labels_per_class"])].append(100 * float(row["test/accuracy"]))
            else:
                failed += 1
    if failed:
        print(f"{failed} failed runs are left out", file=sys.stderr)
    labels = sorted({n for _, n in accuracy})
    shutil.copy(sweep / "sweep.csv", HERE / f"{study.file}.csv")

    lines = [f"| labels per class | {' | '.join(ARMS.values())} |", "|---:|" + "---:|" * len(ARMS)]
    for n in labels:
        cells = (f"{fmean(accuracy[arm, n]):.1f} ± {stdev(accuracy[arm, n]):.1f}" for arm in ARMS)
        lines.append(f"| {n} | {' | '.join(cells)} |")
    seeds = min(map(len, accuracy.values()))
    *few, most = map(str, labels)
    text = TEXT.format(
        study=study,
        experiment=experiment,
        labels=f"{', '.join(few)} or {most}",
        runs=sum(map(len, accuracy.values())),
        table="\n".join(lines),
        seeds=seeds,
        hardware=hardware,
    )
    (HERE / f"{study.file}.md").write_text(text, encoding="utf-8")

    figure = Figure(figsize=(6, 4), dpi=120, layout="tight")
    axes = figure.subplots()
    for arm, name in ARMS.items():
        means = [fmean(accuracy[arm, n]) for n in labels]
        spreads = [stdev(accuracy[arm, n]) for n in labels]
        axes.errorbar(labels, means, spreads, marker="o", capsize=3, label=name)
    axes.set(xscale="log", xlabel="labels per class", ylabel="test accuracy, %", title=f"{study.title}, {study.net}")
    axes.set_xticks(labels, map(str, labels))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(HERE / f"{study.file}.png")
    print("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
