"""TensorBoard callbacks for images: the first layer's kernels, and the mistakes and features of a classifier."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from lightning import LightningModule, Trainer
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchvision.utils import make_grid

from zoo.arguments import Positive
from zoo.callbacks.picture import OnTest, Picture, canvas_of, drawing, writer_of
from zoo.contracts import Labelled, OfImages
from zoo.tasks.classify import Classify
from zoo.tasks.loop import logged_step
from zoo.terminal import clean


def drawable(names: Sequence[str]) -> list[str]:
    """Class names that matplotlib can draw: it fails on text that cannot be encoded, and reads $ … $ as a formula."""
    return [clean(str(name)).replace("$", r"\$") for name in names]


class Kernels(Picture):
    """The first layer's kernels as images, after every epoch; each is scaled so that its values span 0 to 1.

    Args:
        most: the number of kernels shown.
    """

    whole_weights = True

    def __init__(self, most: Positive = 64):
        self.most = most

    def fits(self, task: Any, data: Any) -> bool:
        return isinstance(data, OfImages)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not (writer := canvas_of(trainer)):
            return
        with drawing(self):
            kernels = first_kernels(pl_module.model, data.in_channels, data.image_size)  # type: ignore[arg-type]
            if kernels is not None:
                kernels = kernels[: self.most]
                zoom = max(1, 48 // kernels.shape[-1])
                kernels = kernels.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
                grid = make_grid(kernels, nrow=8, normalize=True, scale_each=True, padding=4, pad_value=1.0)
                writer.add_image("kernels/first_layer", grid, logged_step(trainer))


def first_kernels(model: nn.Module, channels: int, size: int) -> Tensor | None:
    """The weights of the first layer, a convolution or a linear layer on pixels, as images (N, 1 or 3, h, w).

    Of kernels with another number of channels only the first channel is taken. None for any other kind of layer.
    """
    weight = next((p.detach().cpu() for p in model.parameters() if p.ndim > 1), None)
    if weight is None:
        return None
    if weight.ndim == 2 and weight.shape[1] == channels * size**2:
        weight = weight.view(-1, channels, size, size)
    if weight.ndim != 4:
        return None
    return weight if weight.shape[1] in (1, 3) else weight[:, :1]


class OfClasses(OnTest):
    """The base class of callbacks that show a classifier's predictions for the test images."""

    def fits(self, task: Any, data: Any) -> bool:
        return isinstance(task, Classify) and isinstance(data, OfImages) and isinstance(data, Labelled)


class ConfusionMatrix(OfClasses):
    """The confusion matrix: rows are true classes, columns predicted ones; shades are fractions of the row's total."""

    def show(self, writer: Any, trainer: Any, task: Any, logits: Tensor, labels: Tensor) -> None:
        from torchmetrics.functional.classification import multiclass_confusion_matrix

        names = drawable(trainer.datamodule.classes)
        counts = multiclass_confusion_matrix(logits, labels, num_classes=len(names))
        shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
        figure = Figure(figsize=(7, 6.4), dpi=100, layout="tight")
        axes = figure.subplots()
        axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
        axes.set(xlabel="predicted", ylabel="true", title=f"{int(counts.diag().sum())} of {len(labels)} right")
        if len(names) <= 20:
            axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
            axes.set_yticks(range(len(names)), names)
            for i in range(len(names)):
                for j in range(len(names)):
                    if counts[i, j]:
                        shade = "white" if shares[i, j] > 0.5 else "black"
                        axes.text(j, i, str(int(counts[i, j])), ha="center", va="center", color=shade, fontsize=8)
        writer.add_figure("test/confusion_matrix", figure, logged_step(trainer), close=False)


class Mistakes(OfClasses):
    """The misclassified test images with the most confident predictions, each with its true and predicted class.

    Args:
        most: the number of images shown.
    """

    def __init__(self, most: Positive = 25):
        self.most = most

    def show(self, writer: Any, trainer: Any, task: Any, logits: Tensor, labels: Tensor) -> None:
        probability, predicted = logits.softmax(1).max(1)
        wrong = (predicted != labels).nonzero()[:, 0]
        worst = wrong[probability[wrong].argsort(descending=True)][: self.most]
        if not len(worst):
            return
        images, names = trainer.datamodule.splits["test"][0], drawable(trainer.datamodule.classes)
        columns = min(5, len(worst))
        rows = -(-len(worst) // columns)
        figure = Figure(figsize=(2 * columns, 2.3 * rows), dpi=80, layout="tight")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid:
            axes.axis("off")
        for axes, i in zip(grid, worst.tolist(), strict=False):
            axes.imshow(images[i].squeeze(-1).numpy(), cmap="gray")
            axes.set_title(f"true {names[labels[i]]}\nsaid {names[predicted[i]]} {probability[i]:.0%}", fontsize=9)
        writer.add_figure("test/worst_mistakes", figure, logged_step(trainer), close=False)


class Projector(OfClasses):
    """The features that the model's ``head`` receives for test images, in TensorBoard's tab Projector.

    Models without a ``head`` are left out.

    Args:
        most: the number of images.
    """

    def __init__(self, most: Positive = 1000):
        self.most = most

    def show(self, writer: Any, trainer: Any, task: Any, logits: Tensor, labels: Tensor) -> None:
        data, head = trainer.datamodule, dict(task.model.named_children()).get("head")
        if not isinstance(head, nn.Module) or not writer_of(trainer):  # only TensorBoard has a projector
            return
        labels = labels[: self.most]  # the test may have been limited to a few batches
        images = data.splits["test"][0][: len(labels)]
        read: list[Tensor] = []
        hook = head.register_forward_pre_hook(lambda _m, inputs: read.append(inputs[0].detach().cpu()))
        try:
            with torch.no_grad():
                # ``forward``, since a compiled call would bypass the hook
                task.model.forward(data.preprocess(images).to(task.device))
        finally:  # a picture that cannot be drawn leaves the model as it was
            hook.remove()
        # ``clean``, as the file of names has one name per line
        names = [clean(str(data.classes[label])) for label in labels.tolist()]
        sprites = images.permute(0, 3, 1, 2).float() / 255  # (N, C, H, W)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the writer warns if the folder exists, as it does in a resumed run
            writer.add_embedding(
                read[0].flatten(1), names, sprites.expand(-1, 3, -1, -1), logged_step(trainer), tag="test_features"
            )
