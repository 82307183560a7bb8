"""Transcribe recordings: connectionist temporal classification (Graves et al. 2006)."""

from typing import Any

import torch
import torch.nn.functional as F
from lightning import Trainer
from torch import Tensor, nn
from torchmetrics.text import CharErrorRate, WordErrorRate

from zoo.arguments import Inherited, NonNegative
from zoo.contracts import Aligned, OfSpeech, require
from zoo.errors import ZooError
from zoo.tasks.task import Mean, Task
from zoo.use.beam import beam_search
from zoo.use.greedy import greedy
from zoo.use.ngram import Graph

ADVICE = "choose model=conv_lstm"


class CTC(Task):
    """Minimise minus the log-probability of a transcript, summed over all ways to align it with the steps of the
    output, in nats per token.

    A recording with fewer steps than its transcript needs, with a blank between equal neighbours, has no alignment: it
    counts as zero, and ``short`` measures the share of such recordings. A test text with a token that no training text
    has counts for the error rates, but not for the loss.

    Measures ``loss``; ``wer`` and ``cer``, the word and character error rates of the most probable token of each step;
    ``short``; and with ``beam`` above 0 also ``wer_beam`` and ``cer_beam``, those of the prefix beam search.

    Args:
        model: maps spectrograms (B, T, M) and numbers of frames (B,) to logits (B, T', num_classes).
        num_classes: the number of tokens with the blank, which is number 0.
        beam: the width of the beam search of the test; 0 leaves it out. Validation is always greedy.
        order: how many words or letters the n-gram of the beam search looks at, 1 to 6; 0 uses none.
        of_words: whether the n-gram is of words, which then are the only ones that the beam search writes; otherwise it
            is of letters.
        lm_weight, insertion: the weight of the n-gram's log-probability, and the bonus in nats for each of its tokens.
        clip_norm, shared: see ``Task``.
    """

    monitor = "val/wer"

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        beam: int = 0,
        order: int = 2,
        of_words: bool = True,
        lm_weight: NonNegative = 0.5,
        insertion: float = 0.0,
        clip_norm: NonNegative | None = 5.0,
        **shared: Inherited,
    ):
        super().__init__(model, clip_norm=clip_norm, **shared)
        self.num_classes, self.beam = num_classes, beam
        self.search_settings: Any = {
            "order": order, "of_words": of_words, "weight": lm_weight, "insertion": insertion,
        }  # fmt: skip
        self.graph: Graph | None = None
        names = ("", "_beam") if beam else ("",)
        self.measures.update({"loss": Mean(), "short": Mean()})
        self.measures.update({f"wer{name}": WordErrorRate() for name in names})
        self.measures.update({f"cer{name}": CharErrorRate() for name in names})

    def check_output(self, logits: Tensor, x: Tensor, targets: Tensor) -> None:
        """Raise a ``ZooError`` if the model does not give one logit per token and step; called once."""
        require(self.model, Aligned, "task=ctc", ADVICE)
        if logits.ndim != 3 or logits.shape[2] != self.num_classes:
            raise ZooError(
                f"task=ctc needs {self.num_classes} numbers for each step; the model gives "
                f"{'×'.join(map(str, logits.shape[1:]))}. Leave model.num_classes at its default, or {ADVICE}"
            )

    def check_run(self, trainer: Trainer, data: Any) -> None:
        super().check_run(trainer, data)
        require(data, OfSpeech, "task=ctc", "choose data=an4, spoken_digits, spoken_digits_small or audio_folder")

    def log_probs(self, x: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The log-probabilities in 32 bits, (B, T, K), and the numbers of steps (B,)."""
        model: Any = self.model
        return model(x, frames).float().log_softmax(2), model.steps(frames)

    def loss(self, log_probs: Tensor, steps: Tensor, targets: Tensor, wanted: Tensor) -> Tensor:
        """The negative log-likelihood of each transcript, (B,); 0 for one without an alignment."""
        return F.ctc_loss(log_probs.transpose(0, 1), targets, steps, wanted, reduction="none", zero_infinity=True)

    def training_loss(self, batch: tuple[Tensor, Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        x, frames, targets, wanted = batch
        nats = self.loss(*self.log_probs(x, frames), targets, wanted)
        loss = (nats / wanted.clamp(min=1).to(nats.device)).mean()
        self.log_training(loss=loss)
        return loss

    def start_measuring(self, part: str) -> None:
        if self.beam and part == "test":
            prepared: Any = self.trainer.datamodule.preprocess  # type: ignore[attr-defined]
            self.graph = Graph(prepared.transcripts, prepared.sentences, **self.search_settings)

    def measure(self, batch: tuple[Tensor, Tensor, Tensor, Tensor], part: str) -> None:
        x, frames, targets, wanted = batch
        log_probs, steps = self.log_probs(x, frames)
        known = (targets < self.num_classes).all(1)  # a test text may have a token that no training text has
        nats = self.loss(log_probs, steps, targets.where(known[:, None], 1), wanted)
        each = torch.where(known, nats / wanted.clamp(min=1).to(nats.device), 0.0)
        measures: Any = self.measures
        measures["loss"].update(each.sum() / known.sum().clamp(min=1), known.sum())
        measures["short"].update((nats == 0).float().mean(), len(x))
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        said = [data.preprocess.transcripts.decode(row[:n]) for row, n in zip(targets.tolist(), wanted, strict=True)]
        rows_of = {"": greedy(log_probs, steps)}
        if self.beam and part == "test":
            rows_of["_beam"] = beam_search(log_probs, steps, self.beam, self.graph)
        for name, rows in rows_of.items():
            texts = [data.preprocess.transcripts.decode(row) for row in rows]
            measures[f"wer{name}"].update(texts, said)
            measures[f"cer{name}"].update(texts, said)
