"""Time to 94 % on CIFAR-10: ``experiment=speednet_cifar10`` against a plain eager program of the same method.

The plain program is what one writes from the paper (Jordan 2024) with torch alone: the same net, whitening, schedule,
alternating flip, shifts, label smoothing, fast biases and Lookahead, on tensors in memory, in 32 bits, with torch's
default memory layout. Ours is ``python train.py`` with all its defaults. Both make as many updates on as many images,
by the same method; ``--accuracy`` trains the plain one to its end and tests it, to see. Epochs of both are timed in
runs that take turns, the first of each not counted, and times to 94 % are those of the experiment's 12 epochs.
"""

import statistics
import time
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from timing import Json, ratio, run, show
from torch import Tensor, nn

from zoo.data import sources
from zoo.models.speednet import SpeedNet

EPOCHS, BATCH = 12, 1024
MEAN, STD = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2470, 0.2435, 0.2616])


def normalised(images: Tensor) -> Tensor:
    """uint8 (N, 32, 32, 3) to float32 (N, 3, 32, 32)."""
    return ((images / 255 - MEAN) / STD).permute(0, 3, 1, 2).contiguous()


def crops(padded: Tensor) -> Tensor:
    """A random 32 px crop of each image: float32 (B, 3, 36, 36) -> (B, 3, 32, 32)."""
    out = padded.new_empty(len(padded), 3, 32, 32)
    at = torch.randint(0, 5, (len(padded), 2))
    for y in range(5):
        for x in range(5):
            here = (at == torch.tensor([y, x])).all(1)
            out[here] = padded[here, :, y : y + 32, x : x + 32]
    return out


def rate(step: int, steps: int) -> float:
    top = 0.23 * steps
    return 0.2 + 0.8 * step / top if step < top else 1 - 0.93 * (step - top) / (steps - top)


class Plain:
    """The whole method; ``epoch()`` trains one epoch and returns its seconds."""

    def __init__(self, n: int, epochs: int):
        data = sources.load("cifar10")
        images = normalised(data["train_images"][:n])
        self.labels, self.test = data["train_labels"][:n], (normalised(data["test_images"]), data["test_labels"])
        self.model = SpeedNet()
        self.model.init_from_data(images[:5000])
        half = torch.rand(n) < 0.5
        images[half] = images[half].flip(3)
        self.padded = F.pad(images, (2, 2, 2, 2), mode="reflect")
        biases = [p for name, p in self.model.named_parameters() if "norm" in name and p.requires_grad]
        others = [p for name, p in self.model.named_parameters() if "norm" not in name and p.requires_grad]
        groups: Any = [{"params": biases, "lr": 64 * 1.5, "weight_decay": 0.0}, {"params": others}]
        self.optimizer = torch.optim.SGD(groups, lr=1.5, momentum=0.85, nesterov=True, weight_decay=1.33e-3)
        self.steps, self.step, self.done = epochs * -(-n // BATCH), 0, 0
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: rate(step, self.steps))
        self.loss = nn.CrossEntropyLoss(label_smoothing=0.2)
        self.slow = {name: value.clone() for name, value in self.model.state_dict().items()}

    def epoch(self) -> float:
        start = time.perf_counter()
        padded = self.padded.flip(3) if self.done % 2 else self.padded
        for index in torch.randperm(len(self.labels)).split(BATCH):
            loss = self.loss(self.model(crops(padded[index])), self.labels[index])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            self.step += 1
            if self.step % 5 == 0 or self.step == self.steps:
                self.look_ahead()
        self.done += 1
        return time.perf_counter() - start

    def look_ahead(self) -> None:
        decay = 1.0 if self.step == self.steps else 0.95**5 * (self.step / self.steps) ** 3
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.slow[name].lerp_(value, 1 - decay)
                value.copy_(self.slow[name])

    def accuracy(self) -> float:
        """On the test split, as the mean over an image, its mirror and their shifts by a pixel."""
        self.model.eval()
        right = 0
        with torch.inference_mode():
            for x, y in zip(*(part.split(500) for part in self.test), strict=True):
                padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
                views = [(0.5, x), (0.25, padded[:, :, :32, :32]), (0.25, padded[:, :, 2:, 2:])]
                logits = sum(w * (self.model(view) + self.model(view.flip(3))) for w, view in views)
                right += int((logits.argmax(1) == y).sum())  # type: ignore[union-attr]
        return right / len(self.test[1])


def main(
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each, in turn.")] = 2,
    epochs: Annotated[int, typer.Option(min=2, help="Of each run; the first is not counted.")] = 2,
    images: Annotated[int, typer.Option(min=BATCH, max=50_000, help="Training images of each.")] = 20_480,
    accuracy: Annotated[
        bool, typer.Option("--accuracy", help="Train the plain program to its end and test it.")
    ] = False,
    json: Json = None,
) -> None:
    """Ours against the plain program."""
    if accuracy:
        plain = Plain(50_000, EPOCHS)
        minutes = sum(plain.epoch() for _ in range(EPOCHS)) / 60
        show("plain program", [{"minutes": minutes, "test accuracy": plain.accuracy()}], json)
        return
    theirs: list[float] = []
    ours: list[float] = []
    overrides = [f"data.labels_per_class={images // 10}", f"trainer.max_epochs={epochs}", "test=false"]
    for _ in range(repeats):
        plain = Plain(images, epochs)
        theirs += [plain.epoch() for _ in range(epochs)][1:]
        ours += run(["experiment=speednet_cifar10", *overrides]).seconds[1:]
    to_94 = EPOCHS * 50_000 / images / 60
    minutes = {"plain, min": to_94 * statistics.median(theirs), "ours, min": to_94 * statistics.median(ours)}
    show("time to 94 % on CIFAR-10, plain / ours", [{**minutes, **ratio(theirs, ours)}], json)


if __name__ == "__main__":
    typer.run(main)
