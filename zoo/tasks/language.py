"""Predicting a token at every step: the next one of a text, or a tag."""

from collections.abc import Mapping
from math import exp, log
from typing import Any

import torch.nn.functional as F
from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from zoo.arguments import Inherited, NonNegative, Probability
from zoo.contracts import OfText, SeesAhead, Stateful
from zoo.errors import ZooError
from zoo.tasks.task import Mean, Task


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
        clip_norm, shared: see ``Task``.
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        label_smoothing: Probability = 0.0,
        clip_norm: NonNegative | None = 1.0,
        **shared: Inherited,
    ):
        super().__init__(model, clip_norm=clip_norm, **shared)
        self.num_classes, self.label_smoothing = num_classes, label_smoothing
        self.stateful = isinstance(model, Stateful)
        self.calls = ("forward", "forward_with_state") if self.stateful else ("forward",)
        self.begun: tuple[int, Any] = (-1, None)  # a training batch, and the state in which it began
        self.eval_state: Any = None  # after the batch before, of a text
        self.measures.update({"loss": Mean(), "accuracy": Mean()})

    def check_output(self, logits: Tensor, x: Tensor, targets: Tensor) -> None:
        """Raise a ``ZooError`` where the model does not give a number a token and step; called once."""
        if targets.ndim != 2 or tuple(logits.shape) != (*targets.shape, self.num_classes):
            wanted = "×".join(map(str, (*targets.shape[1:], self.num_classes)))
            raise ZooError(
                f"task=language needs {wanted} numbers a sequence, a number a token and step; the model gives "
                f"{'×'.join(map(str, logits.shape[1:]))}. Choose a model of sequences, as model=lstm, and leave "
                f"model.read and model.num_classes at their defaults; for a label a sequence: task=classify"
            )

    def check_run(self, trainer: Trainer, data: Any) -> None:
        super().check_run(trainer, data)
        if isinstance(data, OfText) and isinstance(self.model, SeesAhead) and self.model.bidirectional:
            raise ZooError(
                "model.bidirectional=true lets the model see the token that it is to predict; set it to false"
            )

    # --- what a batch becomes -------------------------------------------------------------------------------------

    def logits(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits in full precision, (B, T, num_classes), and the state after the last step, of a model that has one."""
        if not self.stateful:
            return self.model(x).float(), None
        logits, state = self.model.forward_with_state(x, state)  # type: ignore[operator]
        return logits.float(), [tuple(s.detach() for s in layer) for layer in state]

    def training_loss(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        goes_on = batch_idx > 0 and isinstance(data, OfText) and data.windows == "streams"
        if goes_on and self.carried is not None and len(self.carried[0][0]) != len(x):
            rank_zero_warn("this run had batches of another size before it was resumed; its streams begin anew")
            goes_on = False
        if batch_idx != self.begun[0]:  # LBFGS calls this several times for a batch
            self.begun = batch_idx, self.carried
        logits, self.carried = self.logits(x, self.begun[1] if goes_on else None)
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten(), label_smoothing=self.label_smoothing)
        self.log_training(loss=loss)
        return loss

    def start_measuring(self, part: str) -> None:
        self.eval_state = None

    def measure(self, batch: tuple[Tensor, Tensor], part: str) -> None:
        x, y = batch
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        goes_on = isinstance(data, OfText)  # not examples of their own
        logits, self.eval_state = self.logits(x, self.eval_state if goes_on else None)
        n = (y != -100).sum()
        nll = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum")
        self.measures["loss"].update(nll / n.clamp(min=1), n)  # type: ignore[operator]
        self.measures["accuracy"].update((logits.argmax(-1) == y).sum() / n.clamp(min=1), n)  # type: ignore[operator]

    def metrics(self, part: str) -> Mapping[str, Tensor | float]:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        metrics = dict(super().metrics(part))
        if isinstance(data, OfText):
            units, tokens = data.units(part), float(self.measures["loss"].weight)  # type: ignore[arg-type]
            nats = float(metrics["loss"]) * tokens
            if tokens == units["tokens"]:
                metrics["bits_per_character"] = nats / log(2) / units["characters"]
                metrics["perplexity_per_word"] = exp(min(nats / units["words"], 88.0))  # else no float32
            metrics["unknown"] = units["unknown"] / units["tokens"]
        return metrics
