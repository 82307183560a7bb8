"""Predicting a token at every step: the next one of a text, or a tag."""

from collections.abc import Callable, Iterable, Mapping
from math import exp, log
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import Optimizer
from torchmetrics import MeanMetric

from zoo.errors import ZooError
from zoo.tasks.task import Task


class Language(Task):
    """Minimise the mean negative log-likelihood of the tokens, in nats a token.

    Where the data are streams, a model with ``forward_with_state`` begins each batch with the state in which it ended
    the one before (truncated back-propagation through time); gradients stop there. Evaluation carries it always.

    Measures ``loss`` (nats a token) and ``accuracy`` (of the most probable token); and of a text whose characters
    and words are known ``bits_per_character``, the text's nats / log 2 / its characters, and ``perplexity_per_word``,
    exp(the text's nats / its words), where a line's end counts as a word too, as it does in published figures. They
    compare models whatever their tokens are, as long as ``unknown``, the share of tokens that stand for anything that
    the vocabulary has not, is small: those are cheap. Of a part that is measured in part they are left out.

    Args:
        model: from tokens int64 (B, T), or numbers (B, T, F), to logits (B, T, num_classes).
        num_classes: tokens, or tags.
        label_smoothing: in training; evaluation is without.
        optimizer, scheduler, l1, l2, max_norm, clip_norm, lr_scale, monitor, mode: see ``Task``.
    """

    calls = ("forward", "forward_with_state")
    shows = ("samples", "through_time", "gates")

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        optimizer: Callable[[Iterable], Optimizer] | None = None,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        label_smoothing: float = 0.0,
        l1: float = 0.0,
        l2: float = 0.0,
        max_norm: float | None = None,
        clip_norm: float | None = 1.0,
        lr_scale: Mapping[str, float] | None = None,
        monitor: str = "val/loss",
        mode: Literal["max", "min"] = "min",
    ):
        super().__init__(model, optimizer, scheduler, l1, l2, max_norm, lr_scale, monitor, mode, clip_norm)
        self.num_classes, self.label_smoothing = num_classes, label_smoothing
        self.begun: tuple[int, Any] = (-1, None)  # a training batch, and the state in which it began
        self.eval_state: Any = None
        self.eval_loss, self.eval_accuracy = MeanMetric(), MeanMetric()

    def check_output(self, logits: Tensor, x: Tensor, targets: Tensor) -> None:
        """Raise a ``ZooError`` where the model does not give a number a token and step; called once."""
        if targets.ndim != 2 or tuple(logits.shape) != (*targets.shape, self.num_classes):
            wanted = "×".join(map(str, (*targets.shape[1:], self.num_classes)))
            raise ZooError(
                f"task=language needs {wanted} numbers a sequence, a number a token and step; the model gives "
                f"{'×'.join(map(str, logits.shape[1:]))}. Choose a model of sequences, as model=lstm, and leave "
                f"model.read and model.num_classes at their defaults; for a label a sequence: task=classify"
            )
        embedding = getattr(self.model, "embedding", None)
        predicts_inputs = embedding is not None and embedding.num_embeddings == self.num_classes
        if predicts_inputs and getattr(self.model, "bidirectional", False):
            raise ZooError(
                "model.bidirectional=true lets the model see the token that it is to predict; set it to false"
            )

    # --- what a batch becomes -------------------------------------------------------------------------------------

    def logits(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits in full precision, (B, T, num_classes), and the state after the last step, of a model that has one."""
        carrying = getattr(self.model, "forward_with_state", None)
        if carrying is None:
            return self.model(x).float(), None
        logits, state = carrying(x, state)
        return logits.float(), [tuple(s.detach() for s in layer) for layer in state]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        goes_on = batch_idx > 0 and getattr(data, "windows", None) == "streams"
        if goes_on and self.carried is not None and len(self.carried[0][0]) != len(x):
            rank_zero_warn("this run had batches of another size before it was resumed; its streams begin anew")
            goes_on = False
        if batch_idx != self.begun[0]:  # LBFGS calls this several times for a batch
            self.begun = batch_idx, self.carried
        logits, self.carried = self.logits(x, self.begun[1] if goes_on else None)
        nll = F.cross_entropy(logits.flatten(0, 1), y.flatten(), label_smoothing=self.label_smoothing)
        loss = nll + self.penalty()
        if self.trainer._logger_connector.should_update_logs:
            self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def measure(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        goes_on = batch_idx > 0 and hasattr(data, "windows")  # a text, not examples of their own
        logits, self.eval_state = self.logits(x, self.eval_state if goes_on else None)
        n = (y != -100).sum()
        nll = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum")
        self.eval_loss.update(nll / n.clamp(min=1), n)
        self.eval_accuracy.update((logits.argmax(-1) == y).sum() / n.clamp(min=1), n)

    def measured(self, part: str) -> dict[str, Tensor | float]:
        """The metrics of a part, "val" or "test", and a new beginning."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        loss, accuracy = self.eval_loss.compute(), self.eval_accuracy.compute()
        tokens = float(self.eval_loss.weight)
        self.eval_loss.reset()
        self.eval_accuracy.reset()
        metrics: dict[str, Tensor | float] = {f"{part}/loss": loss, f"{part}/accuracy": accuracy}
        if hasattr(data, "units"):
            units = data.units(part)
            nats = float(loss) * tokens
            if tokens == units["tokens"]:
                metrics[f"{part}/bits_per_character"] = nats / log(2) / units["characters"]
                metrics[f"{part}/perplexity_per_word"] = exp(min(nats / units["words"], 88.0))  # else no float32
            metrics[f"{part}/unknown"] = units["unknown"] / units["tokens"]
        return metrics

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.measure(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        metrics = self.measured("val")
        self.log("val/loss", metrics.pop("val/loss"), prog_bar=True)
        self.log_dict(metrics)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        with torch.autocast(self.device.type, enabled=False):  # whatever it was trained in
            self.measure(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        self.log_dict(self.measured("test"))
