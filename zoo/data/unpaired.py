"""Sentences of two languages that are no translations of each other, for ``task=unsupervised_translate``."""

import copy
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from zoo.arguments import NonNegative, Positive, Seed
from zoo.data import pairs
from zoo.data.aligned import Aligned, align
from zoo.data.base import MemoryData
from zoo.data.joint import PAD, JointTokens
from zoo.data.loader import Loader, batches_by_length
from zoo.data.parallel import POOL, PairLoader, place, tokenizer_of
from zoo.errors import ZooError

Both = tuple[Tensor, Tensor]  # sentences of the first and of the second language, each row begins with its language


class UnpairedLoader(Loader):
    """Batches of sentences of two languages, in an order of their own each: int64 (B, S) and (B, T).

    An epoch ends with the language that has fewer sentences.

    Args:
        rows: padded sentences of each language.
        batch_size: sentences of each language per batch.
        shuffle: whether the order is random, as in training.
        seed: see ``Loader``.
    """

    def __init__(self, rows: Both, batch_size: int, shuffle: bool = False, seed: Seed = 0):
        super().__init__(seed)
        self.rows, self.batch_size, self.shuffle = rows, batch_size, shuffle
        self.keeps_place = shuffle
        self.lengths = [(side != PAD).sum(1) for side in rows]

    def __len__(self) -> int:
        return -(-min(len(side) for side in self.rows) // self.batch_size)

    def plan(self) -> list[list[Tensor]]:
        """The indices of the sentences of each batch, for each language."""
        generator = self.generator() if self.shuffle else None
        return [batches_by_length(lengths, self.batch_size, POOL, generator) for lengths in self.lengths]

    def take(self, plan: list[list[Tensor]], i: int) -> Both:
        first, second = (
            side[batches[i], : int(lengths[batches[i]].max())]
            for side, lengths, batches in zip(self.rows, self.lengths, plan, strict=True)
        )
        return first, second


class UnpairedData(MemoryData):
    """Sentences of two languages of which none is the translation of another.

    They are made from a corpus of pairs as Lample et al. 2018 did (section 4.1): the first language's sentences come
    from one half of the training pairs, and the second language's from the other half; likewise in validation. Pairs
    that share a sentence are in the same half, so no translation of a sentence is seen. Only the test has pairs.

    A batch of training and validation has sentences of both languages, int64 (B, S) and (B, T), whose first token is
    that of their language. A batch of the test has pairs in the same form.

    Args:
        name: "multi30k" or "tatoeba".
        languages: the two languages, such as [en, fr].
        vocab_size: number of tokens of both languages together; it is checked.
        also: further corpora of pairs, such as [tatoeba], of which each half is read in one language only; their
            sentences give the vectors of the tokens a better start, and the model is not trained on them.
        most: largest number of tokens.
        tokenizer: name or file of trained weights whose tokens are used; None learns them from the training part.
        batch_size: sentences of each language per update.
        eval_batch_size: sentences per batch in evaluation.
        longest: longer training sentences are left out.
        dim, window: of the vectors; see ``zoo.data.aligned.align``.
        val_size, test_size: as in ``ParallelData``.
        seed: seed for the order of the training sentences.
        root: the folder of the data; None means $ZOO_DATA, the clone's ``data/`` or the user's cache.

    Raises:
        ZooError: an argument is out of its range, or a corpus does not suit.
    """

    def __init__(
        self,
        name: str,
        languages: Sequence[str],
        vocab_size: Positive,
        also: Sequence[str] = (),
        most: Positive = 8000,
        tokenizer: str | JointTokens | None = None,
        batch_size: Positive = 32,
        eval_batch_size: Positive = 100,
        longest: Positive = 60,
        dim: Positive = 128,
        window: Positive = 5,
        val_size: NonNegative | None = None,
        test_size: NonNegative | None = None,
        seed: Seed = 0,
        root: str | None = None,
    ):
        super().__init__()
        self.name: str = name  # type: ignore[assignment]  Lightning's own is str | None
        self.languages, self.vocab_size, self.longest = list(languages), vocab_size, longest
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self.dim, self.window, self.val_size = dim, window, val_size
        where = place(name, languages, None, root, val_size, test_size, 0)
        self.texts = unpaired(where)
        self.more = further(tuple(languages), tuple(also), root)
        self.tokenizer = tokenizer_of(tokenizer) if tokenizer else learned(where, most)
        self.splits: dict[str, Both] = {}
        self._aligned: Aligned | None = None
        self._used: dict[int, Tensor] = {}

    def setup(self, stage: str | None = None) -> None:
        """Tokenise all parts."""
        if self.splits:
            return
        if (held := len(self.tokenizer.vocabulary)) != self.vocab_size:
            raise ZooError(f"data.vocab_size={self.vocab_size} is not valid: the vocabulary has {held} tokens")
        for part, texts in self.texts.items():
            first, second = (self.rows(text, language) for text, language in zip(texts, self.languages, strict=True))
            if part == "train":
                first, second = self.short(first), self.short(second)
            self.splits[part] = first, second

    def rows(self, text: Sequence[str], language: str) -> Tensor:
        return self.tokenizer.padded_targets(text, language)

    def short(self, rows: Tensor) -> Tensor:
        """The sentences of at most ``longest`` tokens."""
        lengths = (rows != PAD).sum(1)
        kept = lengths <= self.longest
        if not kept.any():
            raise ZooError(f"data.longest={self.longest} leaves no training sentences; give a larger number")
        return rows[kept, : int(lengths[kept].max())]

    def aligned(self) -> Aligned:
        """The tokens of both languages in one space, from the training sentences and those of ``also``."""
        if self._aligned is not None:
            return self._aligned
        sides = []
        for side, language in enumerate(self.languages):
            rows = [self.splits["train"][side]]
            if self.more[side]:
                rows.append(self.short(self.rows(self.more[side], language)))
            width = max(row.shape[1] for row in rows)
            sides.append(torch.cat([pad(row, (0, width - row.shape[1])) for row in rows]))
        self._aligned = align(sides[0], sides[1], self.vocab_size, self.tokenizer.first, self.dim, self.window)
        return self._aligned

    def used(self, side: int) -> Tensor:
        """Which tokens the training sentences of the first (0) or second (1) language have, bool (V,)."""
        if side not in self._used:  # asked for at every update
            tokens = self.splits["train"][side][:, 1:].flatten()
            self._used[side] = torch.bincount(tokens, minlength=self.vocab_size) > 0
        return self._used[side]

    def first(self, n: int) -> tuple["UnpairedData", int]:
        """A copy of the data with only the first n sentences of every part, and the number of its test pairs."""
        few = copy.copy(self)
        few.splits, few._used = {part: (a[:n], b[:n]) for part, (a, b) in self.splits.items()}, {}
        return few, len(few.splits["test"][0])

    def smallest_batch(self, world_size: int) -> int:
        return min(self.batch_size, *(len(side) for side in self.splits["train"]))

    def train_dataloader(self) -> Loader:
        """The training sentences in a new order every epoch; a resumed run continues where it stopped."""
        return self.training(UnpairedLoader(self.splits["train"], self.batch_size, True, self.seed))

    def val_dataloader(self) -> Loader:
        return UnpairedLoader(self.splits["val"], self.eval_batch_size)

    def test_dataloader(self) -> Loader:
        return PairLoader(self.splits["test"], self.eval_batch_size)

    # --- what a run reports about its data --------------------------------------------------------------------------

    def sample(self, n: int, split: str = "train") -> tuple[Tensor, Tensor]:
        """n sentences of the first language as a model reads and writes them again: int64 (n, 2, L), and (n, L)."""
        row = self.splits[split][0][:n]
        return torch.stack([row[:, 1:], row[:, :-1]], 1), row[:, 1:]

    def summary(self) -> str:
        """One line with the sizes of the parts."""
        parts = []
        for part, name in (("train", "training"), ("val", "validation")):
            a, b = (len(side) for side in self.splits[part])
            parts.append(f"{a:,} {self.languages[0]} and {b:,} {self.languages[1]} {name} sentences")
        pairs_ = f"{len(self.splits['test'][0]):,} test pairs"
        return f"{self.name}: {', '.join(parts)}, none paired; {pairs_}, {self.vocab_size} tokens"

    def card(self) -> dict[str, Any]:
        """The card's entry about a model's inputs: the tokens and the languages."""
        return {"preprocess": self.tokenizer.config()}


@lru_cache(maxsize=4)
def unpaired(where: tuple[Any, ...]) -> dict[str, pairs.Pairs]:
    """The sentences of each part, of which only the test's are pairs; ``where`` is what ``place`` returns."""
    found, _ = pairs.parts(*where)
    return {part: halves(found[part]) for part in ("train", "val")} | {"test": found["test"]}


def further(languages: tuple[str, ...], corpora: Sequence[str], root: str | None) -> pairs.Pairs:
    """Sentences of further corpora in the two languages, none of which is the translation of another."""
    found: pairs.Pairs = ([], [])
    for corpus in corpora:
        read, _ = pairs.parts(*place(corpus, languages, None, root, 1, 1, 0))
        for side, sentences in zip(found, halves(read["train"]), strict=True):
            side.extend(dict.fromkeys(sentences))
    return found


def halves(both: pairs.Pairs) -> pairs.Pairs:
    """One half of the first language's sentences, and of the second language's those that do not translate them."""
    parts = pairs.split(both, 0, 0.5, 0)
    return parts["train"][0], parts["test"][1]


@lru_cache(maxsize=4)
def learned(where: tuple[Any, ...], most: int) -> JointTokens:
    """The tokens of the unpaired training sentences, cached, since the config and its data both need them."""
    return JointTokens.fit(unpaired(where)["train"], where[1], most)


def vocab_size(*, _parent_: Any) -> int:
    """A resolver for configs: the number of tokens, from the settings in the same node of the config."""
    if _parent_["tokenizer"]:
        return len(tokenizer_of(_parent_["tokenizer"]).vocabulary)
    name, languages, root, val, test = (
        _parent_.get(key) for key in ("name", "languages", "root", "val_size", "test_size")
    )
    where = place(name, languages, None, root, val, test, 0)
    return len(learned(where, _parent_["most"]).vocabulary)
