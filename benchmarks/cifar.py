"""Our CIFAR-10 epoch against the way public trainers write it.

The usual way: a PIL image an example through RandomCrop(32, padding=4), RandomHorizontalFlip, ToTensor and Normalize, a
DataLoader with 2 (persistent) workers, and a bare eager loop in 32 bits. Ours: ``python train.py experiment=…`` with
all its defaults. Both train the same net with the same batch by SGD with momentum, on as many images. Runs of either
take turns; in each the first epoch is not counted; validation and test are outside both.
"""

import statistics
import time
from collections.abc import Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from PIL import Image
from timing import Json, ratio, run, show
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

import zoo
from zoo.data import sources

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
NETS: dict[str, tuple[list[str], int, int]] = {  # our run, images, batch
    "resnet20": (["experiment=resnet20_cifar10"], 10_240, 128),
    "resnet18": (["experiment=resnet20_cifar10", "model=resnet18", "model.stem=cifar"], 2_560, 128),
    "speednet": (["experiment=speednet_cifar10"], 10_240, 1024),
}


class PerSample(Dataset[tuple[Tensor, int]]):
    """The first images of CIFAR-10, one at a time."""

    def __init__(self, n: int) -> None:
        data = sources.load("cifar10")
        self.images, self.labels = data["train_images"][:n], data["train_labels"][:n]
        self.transform: Any = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[i].numpy())), int(self.labels[i])


def net(name: str) -> nn.Module:
    """The module that our run trains."""
    return zoo.create("resnet18", stem="cifar", num_classes=10) if name == "resnet18" else zoo.create(name)


def usual(model: nn.Module, n: int, batch_size: int, epochs: int, workers: int) -> list[float]:
    """Seconds of each epoch."""
    loader: Any = DataLoader(
        PerSample(n), batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    seconds: list[float] = []
    for _ in range(epochs):
        start = time.perf_counter()
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds.append(time.perf_counter() - start)
    return seconds


def main(
    nets: Annotated[list[str] | None, typer.Argument(help="resnet20, resnet18, speednet; all of them.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each, in turn.")] = 2,
    epochs: Annotated[int, typer.Option(min=2, help="Of each run; the first is not counted.")] = 3,
    workers: Annotated[int, typer.Option(help="Of the usual way.")] = 2,
    json: Json = None,
) -> None:
    """The usual way's epoch against ours."""
    rows: list[dict[str, Any]] = []
    for name in nets or NETS:
        overrides, n, batch_size = NETS[name]
        shared = [f"data.labels_per_class={n // 10}", f"data.batch_size={batch_size}", f"trainer.max_epochs={epochs}"]
        theirs: list[float] = []
        ours: list[float] = []
        for _ in range(repeats):
            theirs += usual(net(name), n, batch_size, epochs, workers)[1:]
            ours += run([*overrides, *shared, "test=false"]).seconds[1:]
        rows.append({"net": name, "images": n, **medians(theirs, ours), **ratio(theirs, ours), "goal": ">= 1.5"})
    show("usual way's epoch / ours, CIFAR-10", rows, json)


def medians(theirs: Sequence[float], ours: Sequence[float]) -> dict[str, float]:
    return {"usual, s": statistics.median(theirs), "ours, s": statistics.median(ours)}


if __name__ == "__main__":
    typer.run(main)
