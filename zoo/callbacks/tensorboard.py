"""What TensorBoard shows besides Lightning's own scalars; each is a callback that a config switches on or off."""

import warnings
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.tensorboard.summary import hparams
from torchvision.utils import make_grid

from zoo.callbacks.curves import batch_step, drawing, logged_step
from zoo.terminal import clean


def writer_of(trainer: Trainer) -> Any | None:
    """The run's SummaryWriter on the main process; None without a TensorBoard logger."""
    logger = trainer.logger
    return logger.experiment if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero else None


def drawable(names: Sequence[str]) -> list[str]:
    """Class names for matplotlib, which takes only text that can be encoded, and reads formulas between $ signs."""
    return [clean(str(name)).replace("$", r"\$") for name in names]


class SharedCharts(Callback):
    """Training and validation on one chart each, in the tab Custom Scalars."""

    def __init__(self, metrics: list[str]):
        self.metrics = metrics

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (writer := writer_of(trainer)) and trainer.ckpt_path is None:  # a resumed run has them
            charts = {name: ["Multiline", [f"train/{name}", f"val/{name}"]] for name in self.metrics}
            writer.add_custom_scalars({"training and validation": charts})


class Norms(Callback):
    """Each layer's gradient norm before clipping (the lecture's vanishing gradient, 16.1); the trained weights' norm.

    Of a game of several players, each has the norms of its own update's gradients, by its own loss.
    """

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if pl_module.automatic_optimization:  # here Lightning has unscaled the gradients, and not clipped them yet
            self.show(trainer, pl_module)

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not pl_module.automatic_optimization:  # such a task clips before its optimizer's step
            self.show(trainer, pl_module)

    def show(self, trainer: Trainer, task: LightningModule) -> None:
        """Log the norms of what is being trained: another player's parameters are switched off, though old gradients
        are left on them.
        """
        if not (trainer.logger and trainer._logger_connector.should_update_logs):
            return
        named = [(n, p.detach(), p.grad) for n, p in task.named_parameters() if p.requires_grad and p.grad is not None]
        if not named:  # an objective that goes by no gradient
            return
        grads = torch.stack(torch._foreach_norm([grad for _, _, grad in named]))
        squares: dict[str, float] = defaultdict(float)
        for (name, _, _), square in zip(named, grads.square().tolist(), strict=True):
            squares[name.removeprefix("model.").rpartition(".")[0]] += square  # a layer's weight and bias together
        values = {f"grad_norm/{layer}": square**0.5 for layer, square in squares.items()}
        trained = [
            p.detach() for optimizer in trainer.optimizers for group in optimizer.param_groups for p in group["params"]
        ]
        values["weight_norm"] = torch.stack(torch._foreach_norm(trained)).norm().item()
        trainer.logger.log_metrics(values, step=batch_step(trainer))


class Graph(Callback):
    """The model's graph."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        writer, model = writer_of(trainer), pl_module.model
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not writer or trainer.ckpt_path is not None:  # a resumed run has its graph
            return
        if getattr(model, "_compiled_call_impl", None) is not None:  # a compiled model cannot be traced
            return
        x = data.sample(1)[0].to(pl_module.device)
        training = model.training  # type: ignore[union-attr]
        try:
            with warnings.catch_warnings(), torch.random.fork_rng():
                warnings.simplefilter("ignore")  # the tracer warns of shapes that are constant on purpose
                writer.add_graph(model.eval(), x)  # type: ignore[union-attr]
        except Exception as error:  # a picture must not end a run; the tracer raises anything
            rank_zero_warn(f"the model's graph cannot be drawn: {str(error).strip().splitlines()[0]}")
        finally:
            model.train(training)  # type: ignore[union-attr]


class Kernels(Callback):
    """The first layer's kernels as images, after every epoch; each is scaled to its own range.

    Args:
        most: how many are shown.
    """

    def __init__(self, most: int = 64):
        self.most = most

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not (writer := writer_of(trainer)):
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
    """The first layer's weights as images (N, 1 or 3, h, w): of a convolution, or of a linear layer on pixels."""
    weight = next((p.detach().cpu() for p in model.parameters() if p.ndim > 1), None)
    if weight is None:
        return None
    if weight.ndim == 2 and weight.shape[1] == channels * size**2:
        weight = weight.view(-1, channels, size, size)
    if weight.ndim != 4:
        return None
    return weight if weight.shape[1] in (1, 3) else weight[:, :1]


class OnTest(Callback):
    """Collects the test's predictions and shows them when it ends."""

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.outputs: list[tuple[Tensor, Tensor]] = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.outputs.append(outputs)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # under several processes the order of the examples is spread; the pictures are for one
        if (writer := writer_of(trainer)) and self.outputs and trainer.world_size == 1:
            with drawing(self):
                logits, labels = (torch.cat(parts).cpu() for parts in zip(*self.outputs, strict=True))
                self.show(writer, trainer, pl_module, logits, labels)
        self.outputs = []

    def show(self, writer: Any, trainer: Any, task: Any, logits: Tensor, labels: Tensor) -> None:
        raise NotImplementedError


class ConfusionMatrix(OnTest):
    """Rows are true classes, columns predictions; shades are shares of a row."""

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


class Mistakes(OnTest):
    """The test images that were most confidently wrong, each with its true and its predicted class.

    Args:
        most: how many are shown.
    """

    def __init__(self, most: int = 25):
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


class Projector(OnTest):
    """Test images in the space of the features that the head reads, for the tab Projector; for models with a ``head``.

    Args:
        most: how many images.
    """

    def __init__(self, most: int = 1000):
        self.most = most

    def show(self, writer: Any, trainer: Any, task: Any, logits: Tensor, labels: Tensor) -> None:
        data, head = trainer.datamodule, getattr(task.model, "head", None)
        if not isinstance(head, nn.Module):
            return
        images = data.splits["test"][0][: self.most]
        read: list[Tensor] = []
        hook = head.register_forward_pre_hook(lambda _m, inputs: read.append(inputs[0].detach().cpu()))
        with torch.no_grad():
            # not the compiled call, which would pass the hook by
            task.model.forward(data.preprocess(images).to(task.device))
        hook.remove()
        names = [clean(str(data.classes[label])) for label in labels[: self.most].tolist()]  # a line each in a file
        sprites = images.permute(0, 3, 1, 2).float() / 255  # (N, C, H, W)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the writer warns of a folder that a resumed run has already
            writer.add_embedding(
                read[0].flatten(1), names, sprites.expand(-1, 3, -1, -1), logged_step(trainer), tag="test_features"
            )


class HParams(Callback):
    """The run's settings beside its test metrics (its validation's, where there is no test), in the tab HParams."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.config(trainer)["test"]:
            self.show(trainer, "val/")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.show(trainer, "test/")

    def config(self, trainer: Trainer) -> dict[str, Any]:
        from zoo.callbacks.checkpoint import Describe

        return next(c.config for c in trainer.callbacks if isinstance(c, Describe))  # type: ignore[attr-defined]

    def show(self, trainer: Trainer, prefix: str) -> None:
        """Into the run's own event file; the logger's way would log each metric once more, at step 0."""
        if not (writer := writer_of(trainer)):
            return
        with drawing(self):
            groups = ("data", "model", "task", "optimizer", "scheduler", "trainer", "init")
            config = self.config(trainer)
            settings = {"seed": config["seed"], **flat({group: config[group] for group in groups})}
            metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith(prefix)}
            for summary in hparams(settings, metrics):
                writer._get_file_writer().add_summary(summary)


def flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested config as TensorBoard takes it: dotted keys, and numbers or text as values."""
    values: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, dict):
            values |= flat(value, f"{prefix}{key}.")
        elif value is not None:
            values[prefix + key] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return values
