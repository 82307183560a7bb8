"""Our MNIST epoch against the usual way of writing it with Lightning.

The usual way: a Dataset that makes a PIL image of each example and passes it through ToTensor and Normalize, as
torchvision's MNIST does; a DataLoader with 2 (persistent) workers; a LightningModule that logs loss and accuracy every
step, to the Rich bar too; Lightning's default logger and checkpoints. Ours: ``python train.py`` with all its defaults.
Both train LeNet-5 with the same batch and optimizer on the same 55,000 images. Runs of either take turns; in each the
first epoch is not counted. Validation is outside both.
"""

import statistics
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from PIL import Image
from timing import Clock, Json, ratio, run, show
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAccuracy
from torchvision import transforms

from zoo.data import sources
from zoo.models.lenet import LeNet5

TRAIN = 55_000  # of the 60,000; ours holds the others out for validation


class PerSample(Dataset[tuple[Tensor, int]]):
    """MNIST, an image at a time."""

    def __init__(self) -> None:
        data = sources.load("mnist")
        self.images, self.labels = data["train_images"][:TRAIN, :, :, 0], data["train_labels"][:TRAIN]
        self.transform: Any = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[i].numpy(), mode="L")), int(self.labels[i])


class Usual(LightningModule):
    """The usual module: everything is logged at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.model = LeNet5()
        self.accuracy = MulticlassAccuracy(10, average="micro")

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        logits = self.model(x)
        loss = F.cross_entropy(logits, y)
        self.accuracy(logits, y)
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/accuracy", self.accuracy, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, nesterov=True)


def usual(epochs: int, batch_size: int, workers: int) -> list[float]:
    """Seconds of each epoch."""
    clock = Clock()
    Clock.before_epoch = None
    loader: Any = DataLoader(PerSample(), batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    with TemporaryDirectory() as folder:
        callbacks = [RichProgressBar(), clock]
        Trainer(max_epochs=epochs, callbacks=callbacks, default_root_dir=folder).fit(Usual(), loader)
    return clock.seconds


def main(
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each, in turn.")] = 2,
    epochs: Annotated[int, typer.Option(min=2, help="Of each run; the first is not counted.")] = 3,
    batch_size: Annotated[int, typer.Option(help="Of both.")] = 128,
    workers: Annotated[int, typer.Option(help="Of the usual way.")] = 2,
    json: Json = None,
) -> None:
    """The usual way's epoch against ours."""
    theirs: list[float] = []
    ours: list[float] = []
    overrides = ["data=mnist", "model=lenet5", f"data.batch_size={batch_size}", f"trainer.max_epochs={epochs}"]
    for _ in range(repeats):
        theirs += usual(epochs, batch_size, workers)[1:]
        ours += run([*overrides, "test=false"]).seconds[1:]
    row = {"usual, s": statistics.median(theirs), "ours, s": statistics.median(ours)}
    show("usual way's epoch / ours, MNIST, LeNet-5", [{**row, **ratio(theirs, ours), "aim": ">= 4"}], json)


if __name__ == "__main__":
    typer.run(main)
