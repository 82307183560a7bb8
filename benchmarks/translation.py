"""An epoch of translation against a bare loop over the same layers, and the batched search against one by one.

The epoch is ``python train.py`` with all its defaults, on the Korean pairs that come with the zoo; before each of its
epochs the bare loop trains a copy of the model on the same batches, with the same optimizer, loss and clipping. The
search translates the same sentences in one batch and one after the other.
"""

import copy
import time
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from lightning import LightningModule, Trainer
from timing import Json, in_turn, ratio, run, show
from torch import nn

from zoo.data.parallel import ParallelData
from zoo.models.seq2seq import Seq2Seq
from zoo.tasks.beam import beam_search


class BareLoop:
    """Trains an epoch whenever it is called, and keeps the seconds."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.parts: tuple[Any, ...] = ()

    def __call__(self, trainer: Trainer, task: LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not self.parts:
            model: Any = copy.deepcopy(task.model)
            optimizer = task.make_optimizer(model.parameters())  # type: ignore[operator]
            loader: Any = copy.copy(data.train_dataloader())
            loader.before_batch = []
            self.parts = model, optimizer, loader
        model, optimizer, loader = self.parts
        start = time.perf_counter()
        for source, target in loader:
            logits = model.write(target[:, :-1], model.read(source)).logits
            wanted = target[:, 1:].flatten()
            loss = F.cross_entropy(logits.flatten(0, 1), wanted, ignore_index=0, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        self.seconds.append(time.perf_counter() - start)


def main(
    hidden: Annotated[int, typer.Option(help="Units of a layer.")] = 256,
    updates: Annotated[int, typer.Option(help="An epoch is cut to so many.")] = 20,
    epochs: Annotated[int, typer.Option(min=2, help="Of each; the first is not counted.")] = 5,
    sentences: Annotated[int, typer.Option(help="Sentences to translate.")] = 32,
    json: Json = None,
) -> None:
    """The epoch and the search."""
    bare = BareLoop()
    settings = [
        "data=tatoeba", "model=seq2seq", "task=translate", "task.bleu=false", "task.monitor=val/loss", "task.mode=min",
        "optimizer=adam", "scheduler=none", "test=false", f"model.hidden={hidden}", f"trainer.max_epochs={epochs}",
        f"trainer.limit_train_batches={updates}", "trainer.limit_val_batches=1",
    ]  # fmt: skip
    ours = run(settings, before_epoch=bare).seconds[1:]
    rows = [{"what": "epoch: ours / bare", **ratio(ours, bare.seconds[1:])}]
    data = ParallelData("tatoeba", ["ko", "en"], 2000, most=2000, val_size=300, test_size=400)
    data.setup()
    model, source = Seq2Seq(2000, hidden).eval(), data.splits["test"][0][:sentences]
    found = in_turn(
        {
            "batch": lambda: beam_search(model, source, data.tokenizer.target),
            "single": lambda: [beam_search(model, row[None, row != 0], data.tokenizer.target) for row in source],
        },
        3,
    )
    rows.append(
        {"what": f"search, {sentences} sentences: batch / one by one", **ratio(found["batch"], found["single"])}
    )
    show(f"translation, {hidden} units, {torch.get_num_threads()} threads", rows, json)


if __name__ == "__main__":
    typer.run(main)
