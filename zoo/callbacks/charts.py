"""What TensorBoard shows of every run besides Lightning's own scalars."""

import warnings
from collections import defaultdict
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.tensorboard.summary import hparams

from zoo.callbacks.picture import Picture, drawing, writer_of
from zoo.tasks.loop import batch_step, logs_now


class SharedCharts(Picture):
    """Training and validation on one chart each, in the tab Custom Scalars."""

    def __init__(self, metrics: list[str]):
        self.metrics = metrics

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (writer := writer_of(trainer)) and trainer.ckpt_path is None:  # a resumed run has them
            charts = {name: ["Multiline", [f"train/{name}", f"val/{name}"]] for name in self.metrics}
            writer.add_custom_scalars({"training and validation": charts})


class Norms(Picture):
    """Each layer's gradient norm before clipping (the lecture's vanishing gradient, 16.1); the trained weights' norm.

    Of a game of several players, each has the norms of its own update's gradients, by its own loss.
    """

    whole_weights = True

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
        if not (trainer.logger and logs_now(trainer)):
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


class Graph(Picture):
    """The model's graph."""

    whole_weights = True

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model: Any = pl_module.model
        writer = writer_of(trainer)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not writer or trainer.ckpt_path is not None:  # a resumed run has its graph
            return
        if model._compiled_call_impl is not None:  # a compiled model cannot be traced
            return
        x = data.sample(1)[0].to(pl_module.device)
        training = model.training
        try:
            with warnings.catch_warnings(), torch.random.fork_rng():
                warnings.simplefilter("ignore")  # the tracer warns of shapes that are constant on purpose
                writer.add_graph(model.eval(), x)
        except Exception as error:  # a picture must not end a run; the tracer raises anything
            rank_zero_warn(f"the model's graph cannot be drawn: {str(error).strip().splitlines()[0]}")
        finally:
            model.train(training)


class HParams(Picture):
    """The run's settings beside its test metrics (its validation's, where there is no test), in the tab HParams."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.config(trainer)["test"]:
            self.show(trainer, "val/")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.show(trainer, "test/")

    def config(self, trainer: Trainer) -> dict[str, Any]:
        from zoo.run.checkpoint import Describe

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
