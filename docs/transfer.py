"""Makes docs/transfer.md, its plot and its table, from the folder of the sweep ``experiment=mnist_to_fashion``.

python train.py -m experiment=mnist_to_fashion
python docs/transfer.py logs/mnist_to_fashion/sweep-DATE
"""

import csv
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated

import typer
from matplotlib.figure import Figure

HERE = Path(__file__).parent
ARMS = {"scratch": "from scratch", "frozen": "frozen features", "finetuned": "fine-tuned"}
TEXT = """# Transfer from MNIST to Fashion-MNIST

Lecture 16.7: copy the weights learned for task A to a network for task B. LeNet-5 learns Fashion-MNIST from 10, 50 or
500 labels a class, (a) from scratch, (b) on the features of [`lenet5_mnist`](../zoo/weights/lenet5_mnist.json), held
still, of which the head alone is trained, (c) from those weights, all of them trained on. Each of the 45 runs makes
1,000 updates with the same settings, which were not tuned for any of the three, and is measured once, after the last
update, on the official test split.

```
python train.py -m experiment=mnist_to_fashion
python docs/transfer.py logs/mnist_to_fashion/sweep-DATE
```

Test accuracy in per cent, mean ± standard deviation over {seeds} seeds (each draws its own labels); every run is a row
of [transfer.csv](transfer.csv). Hardware: {hardware}.

{table}

Copying gains nothing here: with all weights free, the copied start ends where a random one does, and what LeNet-5 knows
of strokes, held still, does not tell garments apart. Transfer pays where the first task is the richer one; digits to
garments is the other way round.

![Accuracy against labels a class](transfer.png)
"""


def main(
    sweep: Annotated[Path, typer.Argument(help="The folder of the sweep.")],
    hardware: Annotated[str, typer.Option(help="What it ran on.")] = "2 cores of an x86-64 CPU",
) -> None:
    """Read sweep.csv; write transfer.csv, transfer.png and transfer.md beside this file. Failed runs are left out."""
    failed = 0
    accuracy: dict[tuple[str, int], list[float]] = defaultdict(list)
    with (sweep / "sweep.csv").open() as file:
        for row in csv.DictReader(file):
            if row["accuracy"]:
                accuracy[row["init"], int(row["data.labels_per_class"])].append(100 * float(row["accuracy"]))
            else:
                failed += 1
    if failed:
        print(f"{failed} failed runs are left out", file=sys.stderr)
    labels = sorted({n for _, n in accuracy})
    shutil.copy(sweep / "sweep.csv", HERE / "transfer.csv")

    lines = [f"| labels a class | {' | '.join(ARMS.values())} |", "|---:|" + "---:|" * len(ARMS)]
    for n in labels:
        cells = (f"{fmean(accuracy[arm, n]):.1f} ± {stdev(accuracy[arm, n]):.1f}" for arm in ARMS)
        lines.append(f"| {n} | {' | '.join(cells)} |")
    seeds = min(map(len, accuracy.values()))
    text = TEXT.format(table="\n".join(lines), seeds=seeds, hardware=hardware)
    (HERE / "transfer.md").write_text(text, encoding="utf-8")

    figure = Figure(figsize=(6, 4), dpi=120, layout="tight")
    axes = figure.subplots()
    for arm, name in ARMS.items():
        means = [fmean(accuracy[arm, n]) for n in labels]
        spreads = [stdev(accuracy[arm, n]) for n in labels]
        axes.errorbar(labels, means, spreads, marker="o", capsize=3, label=name)
    axes.set(xscale="log", xlabel="labels a class", ylabel="test accuracy, %", title="MNIST to Fashion-MNIST, LeNet-5")
    axes.set_xticks(labels, map(str, labels))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(HERE / "transfer.png")
    print("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
