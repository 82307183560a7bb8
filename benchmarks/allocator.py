"""Training in a process whose memory allocator keeps what it has been given, with one that gives it back to the system.

glibc's malloc hands large tensors back to the system when they are freed, and asks for them anew in the next step; each
page is then cleared and mapped again. Three environment variables keep it from that. Each pair is two processes that
run in turn: ``python train.py`` on a few updates, whose seconds the last line of its output tells.
"""

import os
import re
import subprocess
import sys
from typing import Annotated

import typer
from timing import Json, ratio, show

KEEP = {
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**28),
}
RUNS = {
    "LSTM, 2 × 512, 64 × 128 characters": ["experiment=lstm_shakespeare", "trainer.limit_train_batches=40"],
    "ResNet-20, batch 128, cifar10_small": ["experiment=resnet20_cifar10", "data=cifar10_small"],
}
MORE = ["trainer.max_epochs=1", "test=false", "logger=none", "trainer.limit_val_batches=1", "callbacks.best=null"]


def seconds(arguments: list[str], environment: dict[str, str]) -> float:
    """How long a run trained, as it says."""
    command = [sys.executable, "train.py", *arguments, *MORE]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=True)
    found = re.search(r"trained for ([\d.]+) s", done.stdout)
    assert found, done.stdout
    return float(found[1])


def main(pairs: Annotated[int, typer.Option(help="Of runs, in turn.")] = 3, json: Json = None) -> None:
    """The ratios."""
    rows = []
    for name, arguments in RUNS.items():
        kept, plain = [], []
        for _ in range(pairs):
            plain.append(seconds(arguments, {}))
            kept.append(seconds(arguments, KEEP))
        rows.append({"what": name, **ratio(kept, plain)})
    show("malloc that keeps / as it is", rows, json)


if __name__ == "__main__":
    typer.run(main)
