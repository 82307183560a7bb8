"""Pairs of sentences for models that translate, in batches of similar lengths."""

import copy
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from zoo.arguments import NonNegative, Positive, Seed
from zoo.data import pairs
from zoo.data.base import MemoryData
from zoo.data.joint import PAD, JointTokens
from zoo.data.loader import Loader, batches_by_length
from zoo.data.parts import stamp
from zoo.errors import ZooError

POOL = 50  # batches that are sorted by length together: more give less padding, but less random batches


class PairLoader(Loader):
    """Batches of sentence pairs, each cut to its longest sentences: source int64 (B, S) and target int64 (B, T).

    With ``shuffle`` the pairs are in a new random order in each epoch; pools of 50 batches are sorted by length,
    and their batches are shuffled, so that a batch has sentences of similar lengths and little padding. Otherwise all
    pairs are sorted by length.

    Args:
        tensors: padded source and target tokens, with equal first dimensions.
        batch_size: pairs per (global) batch; the last batch of an epoch may be smaller.
        shuffle: whether the order is random, as in training.
        seed, rank, world_size: see ``Loader``.
    """

    def __init__(
        self,
        tensors: tuple[Tensor, Tensor],
        batch_size: int,
        shuffle: bool = False,
        seed: Seed = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        super().__init__(seed, rank, world_size)
        self.tensors, self.batch_size, self.shuffle = tensors, batch_size, shuffle
        self.keeps_place = shuffle
        self.lengths = torch.stack([(tensor != PAD).sum(1) for tensor in tensors], 1)  # (N, 2)
        self.total = len(tensors[0])
        if shuffle:  # equal shares of every batch for all processes
            self.total -= (self.total % batch_size) % world_size

    def __len__(self) -> int:
        return -(-self.total // self.batch_size)

    def plan(self) -> list[Tensor]:
        """The indices of the pairs of each batch."""
        keys = self.lengths[:, 1] * (int(self.lengths.max()) + 1) + self.lengths[:, 0]  # target first, then source
        return batches_by_length(keys, self.batch_size, POOL, self.generator() if self.shuffle else None, self.total)

    def take(self, plan: list[Tensor], i: int) -> tuple[Tensor, Tensor]:
        index = plan[i][self.rank :: self.world_size]
        longest = self.lengths[plan[i]].amax(0).tolist()
        source, target = (tensor[index, :n] for tensor, n in zip(self.tensors, longest, strict=True))
        return source, target


class ParallelData(MemoryData):
    """Sentences in one language and their translations in another, for ``task=translate``.

    The byte-pair tokens are learned from the training part of both languages together; see ``JointTokens``. A batch is
    source int64 (B, S) and target int64 (B, T), padded with 0; every target begins with the token of its language.

    Args:
        name: "multi30k", "tatoeba", or "parallel_text" for files of your own.
        languages: the source and the target language, such as [de, en].
        vocab_size: number of tokens, which determines the sizes of the model; it is checked.
        files: for parallel_text: a file in UTF-8 for each language, with a sentence in each line.
        most: largest number of tokens.
        tokenizer: name or file of trained weights whose tokens are used, for example to train them further; None
            learns them from the training part.
        batch_size: pairs per update.
        eval_batch_size: pairs per batch in evaluation.
        longest: training pairs with a sentence of more tokens are left out.
        val_size, test_size: held-out pairs, as a share (below 1) or a number, for corpora without splits of their own;
            pairs that share a sentence stay together. None for multi30k, which has its own.
        seed: seed for the order of the training pairs.
        split_seed: seed that selects the held-out pairs.
        root: the folder of the data; None means $ZOO_DATA, the clone's ``data/`` or the user's cache.

    Raises:
        ZooError: an argument is out of its range, or does not go with another one.
    """

    def __init__(
        self,
        name: str,
        languages: Sequence[str],
        vocab_size: Positive,
        files: Sequence[str] | None = None,
        most: Positive = 8000,
        tokenizer: str | JointTokens | None = None,
        batch_size: Positive = 64,
        eval_batch_size: Positive = 100,
        longest: Positive = 100,
        val_size: NonNegative | None = None,
        test_size: NonNegative | None = None,
        seed: Seed = 0,
        split_seed: Seed = 0,
        root: str | None = None,
    ):
        super().__init__()
        self.name: str = name  # type: ignore[assignment]  Lightning's own is str | None
        self.languages, self.vocab_size, self.longest = list(languages), vocab_size, longest
        self.batch_size, self.eval_batch_size, self.val_size = batch_size, eval_batch_size, val_size
        self.seed = seed
        where = place(name, languages, files, root, val_size, test_size, split_seed)
        self.texts, self.digest = pairs.parts(*where)
        self.tokenizer = tokenizer_of(tokenizer) if tokenizer else learned(where, most)
        self.splits: dict[str, tuple[Tensor, Tensor]] = {}

    def setup(self, stage: str | None = None) -> None:
        """Tokenise all parts."""
        if self.splits:
            return
        if (held := len(self.tokenizer.vocabulary)) != self.vocab_size:
            raise ZooError(f"data.vocab_size={self.vocab_size} is not valid: the vocabulary has {held} tokens")
        for part, (source, target) in self.texts.items():
            if source:
                x, y = self.tokenizer.padded(source), self.tokenizer.padded_targets(target, self.languages[1])
                if part == "train":
                    x, y = self.short(x, y)
            else:
                x, y = torch.zeros(0, 1, dtype=torch.int64), torch.zeros(0, 2, dtype=torch.int64)
            self.splits[part] = x, y

    def short(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The pairs of which both sides have at most ``longest`` tokens."""
        lengths = torch.stack([(x != PAD).sum(1), (y != PAD).sum(1)], 1)
        kept = (lengths <= self.longest).all(1)
        if not kept.any():
            raise ZooError(f"data.longest={self.longest} leaves no training pairs; give a larger number")
        width, height = lengths[kept].amax(0).tolist()
        return x[kept, :width], y[kept, :height]

    def contents(self) -> dict[str, str]:
        """The digest of files of the user's own, by which a resumed run recognises them even if they were moved."""
        return {"data.files": self.digest} if self.digest else {}

    def first(self, n: int) -> tuple["ParallelData", int]:
        """A copy of the data with only the first n pairs of every part, and the number of its test pairs."""
        few = copy.copy(self)
        few.splits = {part: (x[:n], y[:n]) for part, (x, y) in self.splits.items()}
        return few, len(few.splits["test"][0])

    def smallest_batch(self, world_size: int) -> int:
        return min(self.batch_size, len(self.splits["train"][0])) // world_size

    def train_dataloader(self) -> Loader:
        """The training pairs in a new order every epoch; a resumed run continues where it stopped."""
        self.check_batch_size(self.batch_size)
        return self.training(PairLoader(self.splits["train"], self.batch_size, True, self.seed, *self.processes()))

    def val_dataloader(self) -> Loader | list[Loader]:
        """The validation pairs; no batches if there are none."""
        return self.evaluation("val") if len(self.splits["val"][0]) else []

    def test_dataloader(self) -> Loader:
        """The test pairs."""
        return self.evaluation("test")

    def evaluation(self, part: str) -> Loader:
        """The pairs of a part by length; with several processes, each gets all, because BLEU is one of a corpus."""
        return PairLoader(self.splits[part], self.eval_batch_size)

    # --- what a run reports about its data --------------------------------------------------------------------------

    def sample(self, n: int, split: str = "train") -> tuple[Tensor, Tensor]:
        """The first n pairs as a model's input, int64 (n, 2, L), and the next target token at each step, (n, L)."""
        source, target = (tensor[:n] for tensor in self.splits[split])
        length = max(source.shape[1], target.shape[1] - 1)
        given, wanted = (pad(side, (0, length - side.shape[1]), value=PAD) for side in (target[:, :-1], target[:, 1:]))
        return torch.stack([pad(source, (0, length - source.shape[1]), value=PAD), given], 1), wanted

    def summary(self) -> str:
        """One line with the sizes of the parts."""
        n, v, t = (f"{len(self.splits[part][0]):,}" for part in ("train", "val", "test"))
        named = f"{self.name} {'-'.join(self.languages)}"
        return f"{named}: {n} training, {v} validation, {t} test pairs, {self.vocab_size} tokens"

    def card(self) -> dict[str, Any]:
        """The card's entry about a model's inputs: the tokens and the languages."""
        return {"preprocess": self.tokenizer.config()}


def place(
    name: str,
    languages: Sequence[str],
    files: Sequence[str] | None,
    root: str | None,
    val_size: float | None,
    test_size: float | None,
    split_seed: int,
) -> tuple[Any, ...]:
    """The arguments of ``zoo.data.pairs.parts``, which caches what it reads."""
    stamps = tuple(stamp(file) for file in files or ())
    own = None if files is None else tuple(files)
    return name, tuple(languages), own, root, val_size, test_size, split_seed, stamps


@lru_cache(maxsize=4)
def learned(where: tuple[Any, ...], most: int) -> JointTokens:
    """The tokens of a training part, cached, since the config and its data both need them."""
    languages = where[1]
    return JointTokens.fit(pairs.parts(*where)[0]["train"], languages, most)


def tokenizer_of(weight: str | JointTokens) -> JointTokens:
    """The tokens of shipped weights or of a checkpoint.

    Raises:
        ZooError: the model does not translate.
    """
    from zoo.config.build import build
    from zoo.pretrained.reading import read

    if not isinstance(weight, str):
        return weight
    tokenizer = build(read(weight)[0].preprocess, "preprocess")
    if not isinstance(tokenizer, JointTokens):
        raise ZooError(f"data.tokenizer={weight} does not translate; give a model of task=translate")
    return tokenizer


def vocab_size(*, _parent_: Any) -> int:
    """A resolver for configs: the number of tokens, from the settings in the same node of the config."""
    if _parent_["tokenizer"]:
        return len(tokenizer_of(_parent_["tokenizer"]).vocabulary)
    keys = ("name", "languages", "files", "root", "val_size", "test_size", "split_seed")
    return len(learned(place(*(_parent_.get(key) for key in keys)), _parent_["most"]).vocabulary)
