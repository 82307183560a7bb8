"""Predict a token at every step of a sequence: the next token of a text, or a tag."""

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
    """Minimise the mean negative log-likelihood of the tokens, in nats per token; targets of −100 are ignored.

    With data.windows=streams, a model with ``forward_with_state`` starts each training batch from the final state of
    the previous batch; gradients are not propagated across batches (truncated back-propagation through time). On a
    text, evaluation always carries the state on.

    Measures ``loss`` (nats per token) and ``accuracy`` (of the most probable token). For text it also measures
    ``bits_per_character``, the total loss in nats / log 2 / the number of characters, and ``perplexity_per_word``,
    exp(the total loss in nats / the number of words), where the end of a line counts as a word, as in published
    figures; both are left out if only a portion of the validation or test text was measured. They allow comparing
    models with different tokens, as long as ``unknown`` is small: the share of tokens outside the vocabulary, which
    are all replaced by one token that is easy to predict.

    Args:
        model: maps tokens int64 (B, T), or numbers (B, T, F), to logits (B, T, num_classes).
        num_classes: the number of different tokens, or tags.
        label_smoothing: used in training only.
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
        self.begun: tuple[int, Any] = (-1, None)  # index and initial state of the current training batch
        self.eval_state: Any = None  # the final state of the previous batch of a text
        self.measures.update({"loss": Mean(), "accuracy": Mean()})

    def check_output(self, logits: Tensor, x: Tensor, targets: Tensor) -> None:
        """Raise a ``ZooError`` if the model does not give one logit per token and step; called once."""
        if targets.ndim != 2 or tuple(logits.shape) != (*targets.shape, self.num_classes):
            wanted = "×".join(map(str, (*targets.shape[1:], self.num_classes)))
            raise ZooError(
                f"task=language needs {wanted} numbers per sequence, one per step and token; the model gives "
                f"{'×'.join(map(str, logits.shape[1:]))}. Choose a sequence model such as model=lstm, and leave "
                f"model.read and model.num_classes at their defaults; for one label per sequence: task=classify"
            )

    def check_run(self, trainer: Trainer, data: Any) -> None:
        super().check_run(trainer, data)
        if isinstance(data, OfText) and isinstance(self.model, SeesAhead) and self.model.bidirectional:
            raise ZooError(
                "model.bidirectional=true lets the model see the token that it is to predict; set it to false"
            )

    # --- from a batch to a loss and metrics -----------------------------------------------------------------------

    def logits(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits in full precision, (B, T, num_classes), and the state after the last step, or None without one."""
        if not self.stateful:
            return self.model(x).float(), None
        logits, state = self.model.forward_with_state(x, state)  # type: ignore[operator]
        return logits.float(), [tuple(s.detach() for s in layer) for layer in state]

    def training_loss(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        goes_on = batch_idx > 0 and isinstance(data, OfText) and data.windows == "streams"
        if goes_on and self.carried is not None and len(self.carried[0][0]) != len(x):
            rank_zero_warn(
                "this run had batches of another size before it was resumed; the model starts from its initial state"
            )
            goes_on = False
        if batch_idx != self.begun[0]:  # LBFGS calls this several times per batch
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
        goes_on = isinstance(data, OfText)  # otherwise the examples are independent sequences
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
                metrics["perplexity_per_word"] = exp(min(nats / units["words"], 88.0))  # exp(89) overflows float32
            metrics["unknown"] = units["unknown"] / units["tokens"]
        return metrics
