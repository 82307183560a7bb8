"""Text for language models: a corpus's parts as tokens, read as streams or in windows."""

import copy
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from zoo.arguments import Positive, Seed
from zoo.config.build import build
from zoo.data import speakers, tokens
from zoo.data.base import MemoryData
from zoo.data.integrity import digest
from zoo.data.loader import BatchLoader, Loader
from zoo.data.parts import parts, source, stamp
from zoo.data.streams import Evaluation, StreamLoader
from zoo.data.tokens import Tokenizer, Words
from zoo.errors import ZooError


class TextData(MemoryData):
    """A text, tokenised, for a model that predicts the next token.

    The vocabulary is the training part's. A corpus without a validation part of its own gives the end of its training
    text; its test part is used by ``test`` alone.

    Args:
        name: one of ``zoo.data.corpora.CORPORA``; with a file of your own null, or "text_file".
        vocab_size: tokens of the vocabulary, by which models are sized; checked.
        file: a text of your own in UTF-8. Its last tenth is for test, and the tenth before it for validation.
        level: what a token is: "char", "byte", "word" or "bpe".
        most: tokens of the vocabulary at most; null takes every character or word, and 1024 for bpe.
        tokenizer: take that of a weight, by its name or file, as for training it further on another text; null makes
            one from the training text.
        num_classes, in_features, read: what a model predicts and takes: vocab_size, null and "each".
        batch_size: streams, or windows an update.
        seq_len: tokens of a stretch or window, through which gradients go.
        windows: "streams" read on from batch to batch, with the state carried; "shuffled" ones begin anew.
        rename: the probability that a speaker's name in a stretch of a play is replaced by a made-up one, anew each
            epoch, 0 to 1; see ``zoo.data.speakers.MadeUpNames``. Training's streams of characters alone.
        eval_batch_size, eval_context: streams in evaluation, and tokens each reads before it predicts; see
            ``zoo.data.streams.Evaluation``.
        val_size: characters of the end of the training text for validation, where the corpus has no part for it, as
            tiny_shakespeare; 0 trains on all. Null for the others.
        seed: of the order.
        root: the folder of the data; null is the clone's ``data/`` or the user's cache.
    """

    def __init__(
        self,
        name: str | None,
        vocab_size: int,
        file: str | None = None,
        level: Literal["char", "byte", "word", "bpe"] = "char",
        most: Positive | None = None,
        tokenizer: str | Tokenizer | None = None,
        num_classes: int | None = None,
        in_features: None = None,
        read: Literal["each"] = "each",
        batch_size: int = 64,
        seq_len: int = 128,
        windows: Literal["streams", "shuffled"] = "streams",
        rename: float = 0.0,
        eval_batch_size: Positive = 16,
        eval_context: int = 256,
        val_size: int | None = None,
        seed: Seed = 0,
        root: str | None = None,
    ):
        super().__init__()
        for key, value in (("batch_size", batch_size), ("seq_len", seq_len), ("eval_batch_size", eval_batch_size)):
            if value < 1:
                raise ZooError(f"data.{key}={value} is not valid: give a positive number")
        if eval_context < 0 or (val_size or 0) < 0:
            raise ZooError(f"data.eval_context={eval_context}, data.val_size={val_size}: give 0 or more")
        if windows not in ("streams", "shuffled"):
            raise ZooError(f"data.windows={windows} is not valid: give streams or shuffled")
        self.source = source(name, file, root)
        self.name: str = Path(file).stem if file else str(name)  # type: ignore[assignment]  Lightning's own is str | None
        self.vocab_size, self.num_classes = vocab_size, vocab_size if num_classes is None else num_classes
        self.in_features, self.read = in_features, read
        self.level, self.most, self.val_size = level, most, val_size
        if rename and windows == "shuffled":
            raise ZooError("data.rename needs data.windows=streams")
        self.batch_size, self.seq_len, self.windows, self.rename = batch_size, seq_len, windows, rename
        self.eval_batch_size, self.eval_context = eval_batch_size, eval_context
        self.seed = seed
        self.stamp = stamp(file)
        self.tokenizer: Tokenizer = (
            tokenizer_of(tokenizer) if tokenizer else known_tokenizer(*self.source, level, most, val_size, self.stamp)
        )
        if rename:
            speakers.check(rename, self.tokenizer)
        self.made_up: speakers.MadeUpNames | None = None
        self.texts: dict[str, str] = {}
        self.digest: str | None = None  # of a file of one's own
        self.splits: dict[str, Tensor] = {}

    def setup(self, stage: str | None = None) -> None:
        """Read the text and tokenise its parts."""
        if not self.splits:
            held = len(self.tokenizer.vocabulary)
            if held != self.vocab_size:
                raise ZooError(f"data.vocab_size={self.vocab_size} is not valid: the vocabulary has {held} tokens")
            self.put(parts(*self.source, self.val_size))
            if self.source[1] is not None:
                self.digest = digest("".join(self.texts[part] for part in ("train", "val", "test")).encode())
            if stamp(self.source[1]) != self.stamp:  # its vocabulary is of what was there before
                raise ZooError(f"{self.source[1]} has changed since this run began to read it; run again")
        if self.rename and stage in ("fit", None):
            self.made_up_names()  # to fail early

    def contents(self) -> dict[str, str]:
        """What a text of one's own is known by, wherever it lies."""
        return {"data.file": self.digest} if self.digest else {}

    def made_up_names(self) -> speakers.MadeUpNames:
        if self.made_up is None:
            self.made_up = speakers.MadeUpNames(self.texts["train"], self.tokenizer, self.rename, self.batch_size)
        return self.made_up

    def put(self, texts: dict[str, str]) -> None:
        """Take these texts for the parts."""
        self.texts = texts
        self.splits = {part: self.tokenizer.encode(text) for part, text in texts.items()}
        for part, encoded in self.splits.items():
            if texts[part] and len(encoded) < 2:
                raise ZooError(f"{self.name}: its {part} part has {len(encoded)} tokens; give a longer text")

    def first(self, n: int) -> tuple["TextData", int]:
        """The same text with the first n + 1 characters of the test part alone, all but the first to be predicted."""
        few, text = copy.copy(self), self.texts["test"][: n + 1]
        few.texts = {**self.texts, "test": text}
        few.splits = {**self.splits, "test": self.tokenizer.encode(text)}
        return few, len(text) - 1

    def train_dataloader(self) -> Loader:
        """The training part; a resumed run goes on where it stopped."""
        self.check_batch_size(self.batch_size)
        encoded = self.splits["train"]
        needed = self.seq_len + (self.batch_size if self.windows == "streams" else 1)
        if len(encoded) <= needed:
            raise ZooError(
                f"{self.name}: {len(encoded)} training tokens are too few for data.batch_size={self.batch_size} and "
                f"data.seq_len={self.seq_len}; give smaller ones"
            )
        if self.windows == "streams":
            draw = self.made_up_names().draw if self.rename else None
            streams = (self.batch_size, self.seq_len, self.seed, *self.processes(), draw)
            return self.training(StreamLoader(encoded, *streams))
        windows = encoded.unfold(0, self.seq_len + 1, self.seq_len)  # a view, (n, seq_len + 1)
        return self.training(BatchLoader((windows,), self.batch_size, True, self.seed, *self.processes()))

    def val_dataloader(self) -> Loader | list[Loader]:
        """The validation part, every token once; nothing where there is none."""
        return self.evaluation("val") if len(self.splits["val"]) else []

    def test_dataloader(self) -> Loader:
        """The test part, every token once."""
        return self.evaluation("test")

    def evaluation(self, part: str) -> Loader:
        return Evaluation(self.splits[part], self.eval_batch_size, max(self.seq_len, 256), self.eval_context)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """A batch as (x, y), int64 (B, T) each: y is the token after each of x, or -100."""
        if len(batch) == 1:  # windows
            return batch[0][:, :-1], batch[0][:, 1:]
        return batch

    # --- what a run says of its data --------------------------------------------------------------------------------

    def sample(self, n: int, split: str = "train") -> tuple[Tensor, Tensor]:
        """The first n stretches of a part: tokens, and the tokens after them, int64 (n, T) each."""
        encoded = self.splits[split]
        length = max(1, min(self.seq_len, (len(encoded) - 1) // n))
        rows = encoded.unfold(0, length + 1, length)[:n]
        return rows[:, :-1], rows[:, 1:]

    def units(self, part: str) -> dict[str, int]:
        """The tokens, characters and words (and line ends) of a part, all but those of the first token, which is not
        predicted; and how many of the tokens are unknown ones.
        """
        text, encoded = self.texts[part], self.splits[part]
        words = len(text.split()) + text.count("\n") - isinstance(self.tokenizer, Words)
        unknown = 0 if self.tokenizer.unknown is None else int((encoded[1:] == self.tokenizer.unknown).sum())
        characters = len(text) - len(self.tokenizer.decode(encoded[:1].tolist()))
        counts = {"tokens": len(encoded) - 1, "characters": characters, "words": words}
        return {**{name: max(1, n) for name, n in counts.items()}, "unknown": unknown}

    def summary(self) -> str:
        """One line: the sizes of the parts."""
        n, v, t = (f"{len(self.splits[part]):,}" for part in ("train", "val", "test"))
        return f"{self.name}: {n} training, {v} validation, {t} test tokens ({self.level}), {self.vocab_size} different"

    def card(self) -> dict[str, Any]:
        """What a card says of a model's inputs: its tokenizer, with the vocabulary."""
        return {"preprocess": self.tokenizer.config()}


@lru_cache(maxsize=4)
def known_tokenizer(
    name: str | None,
    file: str | None,
    root: str | None,
    level: str,
    most: int | None,
    val_size: int | None,
    stamp: tuple[int, int] | None,
) -> Tokenizer:
    """The tokenizer of a training text; ``stamp`` is there for a file that changes between the runs of a sweep."""
    return tokens.fit(level, parts(name, file, root, val_size)["train"], most)


def tokenizer_of(weight: str | Tokenizer) -> Tokenizer:
    """The tokenizer of a shipped weight or a checkpoint."""
    from zoo.pretrained.reading import read

    if not isinstance(weight, str):
        return weight
    tokenizer = build(read(weight)[0].preprocess, "preprocess")
    if not isinstance(tokenizer, Tokenizer):
        raise ZooError(f"data.tokenizer={weight} is of no text: it has no tokenizer")
    return tokenizer


def vocab_size(*, _parent_: Any) -> int:
    """For configs: the tokens that a text has, from the settings beside it."""
    data = {key: _parent_.get(key) for key in ("name", "file", "root", "level", "most", "val_size", "tokenizer")}
    if data["tokenizer"]:
        return len(tokenizer_of(data["tokenizer"]).vocabulary)
    where = source(data["name"], data["file"], data["root"])
    sized = data["level"], data["most"], data["val_size"], stamp(data["file"])
    return len(known_tokenizer(*where, *sized).vocabulary)
