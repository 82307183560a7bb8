"""TensorBoard callbacks for every run: shared charts, norms, the model's graph and hyperparameters."""

import shlex
import warnings
from collections import defaultdict
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.tensorboard.summary import hparams

from zoo.callbacks.picture import Picture, drawing, writer_of
from zoo.tasks.loop import batch_step, logs_now


class SharedCharts(Picture):
    """One chart per metric with its training and validation curves, and one with the gradient norms of all layers, in
    TensorBoard's tab Custom Scalars.

    Args:
        metrics: names of the metrics, without "train/" and "val/".
    """

    def __init__(self, metrics: list[str]):
        self.metrics = metrics

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (writer := writer_of(trainer)) and trainer.ckpt_path is None:  # a resumed run has them already
            charts = {name: ["Multiline", [f"train/{name}", f"val/{name}"]] for name in self.metrics}
            layout = {"training and validation": charts}
            if any(isinstance(callback, Norms) for callback in trainer.callbacks):  # type: ignore[attr-defined]
                layout["layers"] = {"gradient norms": ["Multiline", ["grad_norm/.*"]]}  # a pattern of tags
            writer.add_custom_scalars(layout)


class Norms(Picture):
    """The norm of each layer's gradient before clipping, which shows vanishing gradients (lecture 16.1), and the norm
    of all trained weights together.

    If a task has several optimizers, as a GAN has, each gradient norm is taken when its own optimizer makes an update.
    """

    whole_weights = True

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if pl_module.automatic_optimization:  # Lightning has unscaled the gradients but not clipped them yet
            self.show(trainer, pl_module)

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not pl_module.automatic_optimization:  # a task with manual optimisation clips before the optimizer's step
            self.show(trainer, pl_module)

    def show(self, trainer: Trainer, task: LightningModule) -> None:
        """Log the norms of the parameters in this update. Those of another optimizer do not require gradients now, and
        are skipped although they still hold old gradients.
        """
        if not (trainer.logger and logs_now(trainer)):
            return
        named = [(n, p.detach(), p.grad) for n, p in task.named_parameters() if p.requires_grad and p.grad is not None]
        if not named:  # a task that trains without gradients, such as EM
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
        for logger in trainer.loggers:
            logger.log_metrics(values, step=batch_step(trainer))


class Graph(Picture):
    """The model's graph."""

    whole_weights = True

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model: Any = pl_module.model
        writer = writer_of(trainer)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not writer or trainer.ckpt_path is not None:  # a resumed run has its graph already
            return
        if model._compiled_call_impl is not None:  # a compiled model cannot be traced
            return
        x = data.sample(1)[0].to(pl_module.device)
        if not isinstance(x, Tensor):  # the tracer passes the parts of a story one by one
            return
        training = model.training
        try:
            with warnings.catch_warnings(), torch.random.fork_rng():
                warnings.simplefilter("ignore")  # the tracer warns that it treats shapes as constants
                writer.add_graph(model.eval(), x)
        except Exception as error:  # a failed drawing must not end a run, and the tracer may raise anything
            rank_zero_warn(f"the model's graph cannot be drawn: {str(error).strip().splitlines()[0]}")
        finally:
            model.train(training)


class HParams(Picture):
    """The run's settings, and its validation and test metrics, in TensorBoard's tab HParams.

    The settings that the command gave come first, as they are what runs differ in. Loggers other than TensorBoard and
    CSV get the settings too.
    """

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.config(trainer)["test"]:
            self.show(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.show(trainer)

    def config(self, trainer: Trainer) -> dict[str, Any]:
        return self.description(trainer).config

    def description(self, trainer: Trainer) -> Any:
        from zoo.run.checkpoint import Describe

        return next(c for c in trainer.callbacks if isinstance(c, Describe))  # type: ignore[attr-defined]

    def show(self, trainer: Trainer) -> None:
        """Write to the run's own event file; the logger's ``log_hyperparams`` would log each metric again at step 0."""
        if not trainer.is_global_zero:
            return
        with drawing(self):
            describe = self.description(trainer)
            settings = varied_first(describe.config)
            for logger in trainer.loggers:
                if not isinstance(logger, (TensorBoardLogger, CSVLogger)):
                    logger.log_hyperparams(settings)
            if not (writer := writer_of(trainer)):
                return
            found = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith(("val/", "test/"))}
            metrics = {**describe.validated, **found}
            for summary in hparams(settings, metrics):
                writer._get_file_writer().add_summary(summary)


def varied_first(config: dict[str, Any]) -> dict[str, Any]:
    """A run's settings as a flat mapping: first those that its command gave and its seed, then all others.

    A group such as the model stands for its ``_target_``, as the name of the choice or else of the class.
    """
    groups = ("model", "data", "task", "optimizer", "scheduler", "init", "trainer")
    words = (word.lstrip("+").partition("=") for word in shlex.split(config["card"]["command"]))
    said = {key: value for key, equals, value in words if equals}
    values = flat({group: config[group] for group in groups if config[group]})
    classes = {
        group: said.get(group, str(values.pop(f"{group}._target_")).rpartition(".")[2])
        for group in groups
        if f"{group}._target_" in values
    }
    others = {key: value for key, value in values.items() if not key.endswith("_target_")}
    every = {"seed": config["seed"], **classes, **others}
    return {**{key: every.get(key, value) for key, value in said.items()}, **every}


def flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested config as the flat mapping that TensorBoard needs: dotted keys, and numbers or text as values."""
    values: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, dict):
            values |= flat(value, f"{prefix}{key}.")
        elif value is not None:
            values[prefix + key] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return values
