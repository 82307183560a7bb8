"""Our epoch against a bare PyTorch loop with the same tensors, model, batch, loss, optimizer and input.

Ours is ``python train.py`` with all its defaults: Lightning's Trainer, the default callbacks, TensorBoard. Before each
of its epochs the bare loop trains an epoch of its own copy of the model, so that the two take turns; the first epoch of
each is not counted. Validation is outside both; logging, images, checkpoints and SpeedNet's averaging are inside ours.
The bare loop's schedule is one-cycle for every net, and its rate and decay are the same for all parameters.
"""

import copy
import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any

import torch
import typer
from lightning import LightningModule, Trainer
from timing import Json, ratio, run, show
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.optim.optimizer import Optimizer

NETS: dict[str, tuple[list[str], float | None]] = {
    "linear": (["data=mnist", "model=linear", "data.batch_size=256"], None),  # for the milliseconds a step
    "lenet5": (["data=mnist", "data.batch_size=256"], 1.05),
    "resnet20": (["experiment=resnet20_cifar10", "data.labels_per_class=1024"], 1.02),
    "resnet18": (
        ["experiment=resnet20_cifar10", "model=resnet18", "model.stem=cifar", "data.labels_per_class=256"],
        1.02,
    ),
    "speednet": (["experiment=speednet_cifar10", "data.labels_per_class=1024"], 1.02),
}


def epoch(
    model: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    images: Tensor,
    labels: Tensor,
    batch_size: int,
    augment: Callable[[Tensor], Tensor],
    preprocess: Callable[[Tensor], Tensor],
    bf16: bool,
    criterion: nn.Module,
) -> None:
    """The bare loop: raw images uint8 (N, H, W, C) in memory, nothing looked at, nothing logged."""
    for index in torch.randperm(len(labels)).split(batch_size):
        x = preprocess(augment(images[index]))  # (B, C, H, W)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(x)
        loss = criterion(logits.float(), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()


class Bare:
    """Trains an epoch with the bare loop whenever it is called, and keeps the seconds."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.arguments: tuple[Any, ...] = ()

    def __call__(self, trainer: Trainer, task: LightningModule) -> None:
        self.arguments = self.arguments or self.build(trainer, task)
        start = time.perf_counter()
        epoch(*self.arguments)
        self.seconds.append(time.perf_counter() - start)

    def build(self, trainer: Trainer, task: Any) -> tuple[Any, ...]:
        """From a run of ours that has not begun, all that its training is made of."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        model = copy.deepcopy(task.model)
        optimizer = task.make_optimizer(model.parameters())
        steps, lr = int(trainer.estimated_stepping_batches), task.make_optimizer.keywords["lr"]
        scheduler = OneCycleLR(optimizer, lr, total_steps=steps, cycle_momentum=False)
        bf16 = trainer.precision == "bf16-mixed"
        rest = data.batch_size, data.augment, data.preprocess, bf16, task.loss
        return model, optimizer, scheduler, *data.splits["train"], *rest


def main(
    overrides: Annotated[list[str] | None, typer.Argument(help="Of our run, as in logger=none 'callbacks=[]'.")] = None,
    net: Annotated[str, typer.Option(help="linear, lenet5, resnet20, resnet18, speednet or all")] = "all",
    epochs: Annotated[int, typer.Option(min=2, help="Of each; the first is not counted.")] = 6,
    json: Json = None,
) -> None:
    """Our epoch against the bare loop's."""
    rows: list[dict[str, Any]] = []
    for name in NETS if net == "all" else [net]:
        settings, goal = NETS[name]
        bare = Bare()
        clock = run([*settings, *(overrides or []), f"trainer.max_epochs={epochs}", "test=false"], before_epoch=bare)
        ours, theirs = clock.seconds[1:], bare.seconds[1:]
        steps = -(-len(bare.arguments[4]) // bare.arguments[5])
        extra = statistics.median(a - b for a, b in zip(ours, theirs, strict=True)) / steps
        rows.append(
            {
                "net": name,
                "steps": steps,
                "bare, s": statistics.median(theirs),
                "ours, s": statistics.median(ours),
                "extra, ms a step": 1000 * extra,
                **ratio(ours, theirs),
                "goal": f"<= {goal}" if goal else "",
            }
        )
    show("our epoch / bare loop's epoch", rows, json)


if __name__ == "__main__":
    typer.run(main)
