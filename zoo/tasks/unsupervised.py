"""Translate without having seen a translation: Lample et al. 2018, "Unsupervised Machine Translation Using Monolingual
Corpora Only" (lecture 16.7).

One encoder and one decoder serve both languages; the first token that the decoder is given says which language to
write. What differs from the paper: the model's own current translations are used, instead of those of the epoch
before (Lample et al. 2018, "Phrase-Based & Neural Unsupervised Machine Translation", section 3.3); the encoder is
trained against the adversary by reversed gradients in the same update (Ganin et al. 2016), instead of in turns; and the
languages' vectors are aligned from tokens that both write alike, instead of by another adversary.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from lightning import Trainer
from torch import Tensor, nn

from zoo.arguments import Inherited, NonNegative, Positive, Probability
from zoo.contracts import Bilingual, OfTwoLanguages, Translator, require
from zoo.data.joint import END, PAD
from zoo.errors import ZooError
from zoo.tasks.beam import beam_search, greedy
from zoo.tasks.optimised import keywords_of
from zoo.tasks.task import Task
from zoo.tasks.translate import sacrebleu, scores

WHO, ADVICE = "task=unsupervised_translate", "choose model=seq2seq data=unpaired"


class UnsupervisedTranslate(Task):
    """Restore noisy sentences, and sentences from their translations, with an encoder that hides the language.

    Training minimises, for the sentences x of each language (Lample et al. 2018, equation 4),
    denoise · L(d(e(noise(x)), own)), x) + back_translate · L(d(e(noise(translation of x)), own), x) + adversary · (how
    well the encoder's states hide the language); L is the cross-entropy of the tokens.

    Validation measures ``round_trip``: the BLEU, 0 to 100, of sentences that are translated to the other language and
    back, the mean of both languages. It needs no pairs, and chooses the best weights (section 4.4). The test measures
    ``bleu`` of the second language, ``bleu_back`` of the first one, and the BLEU of translations word by word,
    ``word_by_word`` and ``word_by_word_back``, with which the training began.

    Args:
        model: a ``Bilingual`` model.
        word_by_word: the number of first epochs in which the translation of x is one word by word.
        denoise, back_translate, adversary: weights of the three losses, 0 or more.
        drop: probability, 0 to 1, that the noise drops a token.
        shuffle: the noise moves no token by more than this many places (section 2.3: k).
        align: whether the token embeddings begin with the aligned vectors of the data.
        judge_hidden: number of units of the adversary's two hidden layers.
        clip_norm, shared: see ``Task``.
    """

    monitor, mode = "val/round_trip", "max"
    single_process_only = True
    calls_forward = False
    calls = ("read", "write")

    def __init__(
        self,
        model: nn.Module,
        word_by_word: NonNegative = 1,
        denoise: NonNegative = 1.0,
        back_translate: NonNegative = 1.0,
        adversary: NonNegative = 1.0,
        drop: Probability = 0.1,
        shuffle: NonNegative = 3,
        align: bool = True,
        judge_hidden: Positive = 256,
        clip_norm: NonNegative | None = 1.0,
        **shared: Inherited,
    ):
        super().__init__(model, clip_norm=clip_norm, **shared)
        require(model, Bilingual, WHO, ADVICE)
        if not denoise and not back_translate:
            raise ZooError("task.denoise=0, task.back_translate=0: nothing is learned; give one of them a weight")
        self.word_by_word, self.drop, self.shuffle, self.align = word_by_word, drop, shuffle, align
        self.denoise, self.back_translate, self.adversary = denoise, back_translate, adversary
        self.judge = discriminator(model, judge_hidden)
        self.found: dict[str, list[tuple[Tensor, Tensor]]] = {}  # tokens of sentences as found and as wanted

    def check_run(self, trainer: Trainer, data: Any) -> None:
        super().check_run(trainer, data)
        require(data, OfTwoLanguages, WHO, ADVICE)
        sacrebleu()

    @property
    def data(self) -> Any:
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def setup(self, stage: str) -> None:
        """Begin with aligned vectors; a resumed run replaces them by its own weights afterwards."""
        if stage == "fit" and self.align:
            first, second = self.data.aligned().vectors
            shared = (first.norm(dim=1) > 0) & (second.norm(dim=1) > 0)
            self.model.embed((first + second) / (1.0 + shared.float())[:, None])  # type: ignore[operator]

    def parameter_groups(self, wanted: Callable[[str], bool] = lambda name: True) -> list[dict[str, Any]]:
        """Those of the model, and the adversary's, which weight decay does not concern."""
        ours = {"params": list(self.judge.parameters()), "lr_scale": 1.0, "weight_decay": 0.0}
        if not keywords_of(self.make_optimizer).get("weight_decay"):
            del ours["weight_decay"]
        return [*super().parameter_groups(wanted), ours]

    # --- training -------------------------------------------------------------------------------------------------

    def training_loss(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        memories: list[Any] = []
        losses: dict[str, Any] = {"denoise": 0.0, "back_translate": 0.0}
        for side, row in enumerate(batch):
            clean = row[:, 1:]
            if self.denoise or self.adversary:
                memory = self.read(noisy(clean, self.drop, self.shuffle))
                memories.append(memory)
                if self.denoise:
                    losses["denoise"] += self.restored(row, memory)
            if self.back_translate:
                translated = noisy(self.translated(clean, side), self.drop, self.shuffle)
                losses["back_translate"] += self.restored(row, self.read(translated))
        loss = self.denoise * losses["denoise"] + self.back_translate * losses["back_translate"]
        if self.adversary:
            losses["adversary"] = self.judged(memories)
            loss = loss + self.adversary * losses["adversary"]
        self.log_training(loss=loss, **{name: value for name, value in losses.items() if isinstance(value, Tensor)})
        return loss

    def read(self, source: Tensor) -> Any:
        return self.model.read(source)  # type: ignore[operator]

    def restored(self, row: Tensor, memory: Any) -> Tensor:
        """The mean negative log-likelihood of the sentences ``row`` (B, T), given what the encoder has read."""
        logits = self.model.write(row[:, :-1], memory).logits.float()  # type: ignore[operator]
        return F.cross_entropy(logits.flatten(0, 1), row[:, 1:].flatten(), ignore_index=PAD)

    def translated(self, clean: Tensor, side: int) -> Tensor:
        """Translations (B, S) of sentences (B, T) of the first (0) or second (1) language into the other one."""
        if self.current_epoch < self.word_by_word:
            return self.data.aligned().translation[side].to(clean.device)[clean]
        model = self.speaking(1 - side)
        training = self.model.training
        self.model.eval()
        found = greedy(model, clean, self.start(1 - side)).tokens
        self.model.train(training)
        return found

    def speaking(self, side: int) -> Translator:
        """The model, restricted to the tokens of the first (0) or second (1) language."""
        return Speaking(self.model, self.data.used(side).to(self.device))  # type: ignore[arg-type]

    def start(self, side: int) -> int:
        return self.data.tokenizer.start(self.data.languages[side])

    def judged(self, memories: Sequence[Any]) -> Tensor:
        """The loss of the adversary; the encoder receives its gradient with the opposite sign."""
        total: Tensor | float = 0.0
        for side, memory in enumerate(memories):
            logits = self.judge(Reversed.apply(memory.states[memory.mask]).float())[:, 0]
            wanted = torch.full_like(logits, abs(side - 0.1))  # smoothed labels (section 2.4): 0.1 and 0.9
            total = total + F.binary_cross_entropy_with_logits(logits, wanted) / len(memories)
        return total  # type: ignore[return-value]

    # --- validation and test --------------------------------------------------------------------------------------

    def start_measuring(self, part: str) -> None:
        sacrebleu()
        self.found = {}

    def measure(self, batch: tuple[Tensor, Tensor], part: str) -> None:
        for side, row in enumerate(batch):
            clean, other = row[:, 1:], 1 - side
            there = greedy(self.speaking(other), clean, self.start(other)).tokens
            if part == "val":
                back = greedy(self.speaking(side), there, self.start(side)).tokens
                self.note(f"round_trip_{side}", back, clean)
                continue
            wanted, name = batch[other][:, 1:], ("", "_back")[side]
            best = beam_search(self.speaking(other), clean, self.start(other)).tokens
            self.note(f"bleu{name}", best, wanted)
            self.note(f"bleu_greedy{name}", there, wanted)
            if self.align:
                self.note(f"word_by_word{name}", self.data.aligned().translation[side].to(clean.device)[clean], wanted)

    def note(self, name: str, found: Tensor, wanted: Tensor) -> None:
        self.found.setdefault(name, []).append((found.cpu(), wanted.cpu()))

    def metrics(self, part: str) -> Mapping[str, Tensor | float]:
        decode, metrics = self.data.tokenizer.decode, {}
        for name, batches in self.found.items():
            found, wanted = (
                [decode(row) for batch in side for row in batch.tolist()] for side in zip(*batches, strict=True)
            )
            metrics[name] = scores(found, wanted)["bleu"][0]
        if part == "val":
            metrics["round_trip"] = sum(metrics.pop(f"round_trip_{side}") for side in (0, 1)) / 2
        return metrics


class Speaking:
    """A translator that writes only the tokens that ``used``, bool (V,), marks."""

    def __init__(self, model: Translator, used: Tensor):
        self.model, self.used = model, used
        self.read = model.read

    def write(self, target: Tensor, memory: Any, state: Any = None) -> Any:
        out = self.model.write(target, memory, state)
        return out._replace(logits=out.logits.masked_fill(~self.used, -torch.inf))


class Reversed(torch.autograd.Function):
    """The identity, whose gradient has the opposite sign (Ganin et al. 2016, section 4.2)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # type: ignore[override]
        return -gradients[0]


def discriminator(model: Any, hidden: int) -> nn.Module:
    """From the encoder's state of a token to the log-odds that it belongs to the second language."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        width = model.read(torch.full((1, 2), END)).states.shape[-1]
    return nn.Sequential(
        nn.Linear(width, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1)
    )


def noisy(x: Tensor, drop: float, shuffle: float) -> Tensor:
    """Sentences without some of their tokens, and with the others moved a little: section 2.3 of the paper.

    Args:
        x: sentences int64 (B, S), each with ``END`` and then padding.
        drop: probability that a token is left out; the first token of a sentence stays if no other would.
        shuffle: no token moves by more than this many places.

    Returns:
        int64 (B, S); each row has ``END`` after its last token, and then padding.
    """
    places = torch.arange(x.shape[1], device=x.device).expand_as(x)
    words = (x != PAD) & (x != END)
    kept = words & (torch.rand(x.shape, device=x.device) >= drop)
    kept[:, 0] |= words[:, 0] & ~kept.any(1)
    keys = places + torch.rand(x.shape, device=x.device) * (shuffle + 1)
    keys = keys.masked_fill(~kept, torch.inf)  # at the end: what was left out, the end and the padding
    x = x.masked_fill(~kept, PAD).gather(1, keys.argsort(dim=1, stable=True))
    return x.scatter(1, kept.sum(1, keepdim=True), END)
