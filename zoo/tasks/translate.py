"""Translate sentences: predict each token of a translation from the source sentence and the tokens before it."""

from collections.abc import Mapping
from math import exp
from typing import Any

import torch.nn.functional as F
from lightning import Trainer
from torch import Tensor, nn

from zoo.arguments import Inherited, NonNegative, Positive, Probability
from zoo.contracts import OfPairs, Translator, require
from zoo.data.joint import PAD
from zoo.errors import ZooError
from zoo.tasks.beam import beam_search, greedy
from zoo.tasks.task import Mean, Task


class Translate(Task):
    """Minimise the mean negative log-likelihood of the target tokens, in nats per token, given the source sentence.

    Measures ``loss`` (nats per token, without smoothing), ``perplexity`` = exp(loss), ``accuracy`` (of the most
    probable token), and with the library sacrebleu ``bleu``, ``bleu_lower`` (without regard to case) and ``chrf`` of
    whole translations, 0 to 100: greedy ones in validation, and those of a beam search in the test.

    Args:
        model: a ``Translator``.
        label_smoothing: the share of the probability that is spread over all tokens (Szegedy et al. 2016, section 7),
            in training only.
        bleu: whether to measure BLEU and chrF; they need sacrebleu.
        beam, alpha, beta: of the test's beam search; see ``zoo.tasks.beam.beam_search``. beam=1 searches greedily.
        clip_norm, shared: see ``Task``.
    """

    calls_forward = False
    calls = ("read", "write")

    def __init__(
        self,
        model: nn.Module,
        label_smoothing: Probability = 0.1,
        bleu: bool = True,
        beam: Positive = 5,
        alpha: NonNegative = 1.0,
        beta: NonNegative = 0.0,
        clip_norm: NonNegative | None = 1.0,
        **shared: Inherited,
    ):
        super().__init__(model, clip_norm=clip_norm, **shared)
        require(model, Translator, "task=translate", "choose model=seq2seq")
        self.label_smoothing, self.bleu = label_smoothing, bleu
        self.beam, self.alpha, self.beta = beam, alpha, beta
        self.measures.update({"loss": Mean(), "accuracy": Mean()})
        self.translations: list[tuple[Tensor, Tensor]] = []  # tokens of the model's and of the reference translations

    def check_output(self, logits: Tensor, x: Tensor, targets: Tensor) -> None:
        """Raise a ``ZooError`` if the model's output does not suit the task; called once, before training."""
        if x.ndim != 3 or logits.shape[:2] != targets.shape:
            raise ZooError("task=translate needs pairs of sentences: choose data=multi30k, tatoeba or parallel_text")

    def check_run(self, trainer: Trainer, data: Any) -> None:
        super().check_run(trainer, data)
        require(data, OfPairs, "task=translate", "choose data=multi30k, tatoeba or parallel_text")
        if self.bleu:
            sacrebleu()

    # --- from a batch to a loss and metrics -----------------------------------------------------------------------

    def logits(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits in full precision for all target tokens but the first, (B, T − 1, V)."""
        model: Any = self.model
        return model.write(target[:, :-1], model.read(source)).logits.float()

    def training_loss(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        source, target = batch
        logits = self.logits(source, target).flatten(0, 1)
        loss = F.cross_entropy(logits, target[:, 1:].flatten(), ignore_index=PAD, label_smoothing=self.label_smoothing)
        self.log_training(loss=loss)
        return loss

    def measure_quickly(self) -> None:
        """Measure no whole translations; see ``zoo.contracts.Thorough``."""
        self.bleu = False

    def start_measuring(self, part: str) -> None:
        self.translations = []
        if self.bleu:
            sacrebleu()

    def measure(self, batch: tuple[Tensor, Tensor], part: str) -> None:
        source, target = batch
        logits, wanted = self.logits(source, target), target[:, 1:]
        n = (wanted != PAD).sum()
        nll = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=PAD, reduction="sum")
        right = (logits.argmax(-1) == wanted) & (wanted != PAD)
        self.measures["loss"].update(nll / n, n)  # type: ignore[operator]
        self.measures["accuracy"].update(right.sum() / n, n)  # type: ignore[operator]
        if self.bleu:
            model, start = self.model, int(target[0, 0])
            if part == "val" or self.beam == 1:
                found = greedy(model, source, start)  # type: ignore[arg-type]
            else:
                found = beam_search(model, source, start, self.beam, self.alpha, self.beta)  # type: ignore[arg-type]
            self.translations.append((found.tokens.cpu(), wanted.cpu()))

    def metrics(self, part: str) -> Mapping[str, Tensor | float]:
        metrics = dict(super().metrics(part))
        metrics["perplexity"] = exp(min(float(metrics["loss"]), 88.0))  # exp(89) overflows float32
        if self.bleu:
            data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            ours, references = (
                [data.tokenizer.decode(row) for batch in side for row in batch.tolist()]
                for side in zip(*self.translations, strict=True)
            )
            metrics |= {name: value for name, (value, _) in scores(ours, references).items()}
            self.translations = []
        return metrics


def scores(translations: list[str], references: list[str]) -> dict[str, tuple[float, str]]:
    """BLEU (Papineni et al. 2002) with and without regard to case, and chrF (Popović 2015), of a whole corpus.

    Returns:
        By name, the value, 0 to 100, and sacrebleu's signature, which says how it was computed (Post 2018).
    """
    library = sacrebleu()
    kinds = {"bleu": library.BLEU(), "bleu_lower": library.BLEU(lowercase=True), "chrf": library.CHRF()}
    found: dict[str, tuple[float, str]] = {}
    for name, kind in kinds.items():
        value = kind.corpus_score(translations, [references]).score
        found[name] = value, str(kind.get_signature())
    return found


def sacrebleu() -> Any:
    """Import sacrebleu's metrics, an optional dependency.

    Raises:
        ZooError: it is not installed.
    """
    try:
        from sacrebleu import metrics
    except ModuleNotFoundError:
        raise ZooError(
            "BLEU and chrF need the library sacrebleu: pip install 'reference-zoo[translate]', or leave them out: "
            "task.bleu=false"
        ) from None
    return metrics
