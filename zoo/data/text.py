"""Text for language models: the parts of a corpus as tokens, read as continuous streams or in shuffled windows."""

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
    """A tokenised text, for a model that predicts the next token.

    The vocabulary comes from the training part. If a corpus has no validation part, the end of its training text is
    held out. The test part is used only by ``test``.

    Its many arguments are the keys of a data config, one each, so that every one can be set on the command line.

    Args:
        name: one of ``zoo.data.corpora.CORPORA``; None or "text_file" for a file of your own.
        vocab_size: size of the vocabulary, which determines the sizes of the model; it is checked.
        file: a text of your own in UTF-8. Its last tenth is the test part, and the tenth before it the validation part.
        level: kind of token: "char", "byte", "word" or "bpe".
        most: largest size of the vocabulary; None means every character or word, and 1024 tokens for bpe.
        tokenizer: name or file of trained weights whose tokenizer is used, for example to train them further on
            another text; None makes a tokenizer from the training text.
        num_classes, in_features, read: what a model predicts and takes: vocab_size, None and "each".
        batch_size: number of streams, or of windows per update.
        seq_len: tokens per segment or window, through which gradients are propagated back.
        windows: "streams" continue from batch to batch, and the state is carried over; "shuffled" windows each start
            from a zero state.
        rename: probability, 0 to 1, that a speaker's name in a passage of a play is replaced by an invented one, anew
            in each epoch; see ``zoo.data.speakers.MadeUpNames``. Only for training with streams of characters.
        eval_batch_size: number of streams in evaluation.
        eval_context: tokens that each stream reads before its predictions count; see ``zoo.data.streams.Evaluation``.
        val_size: number of characters held out for validation at the end of the training text, for a corpus without a
            validation part, such as tiny_shakespeare; 0 trains on all. None for all other texts.
        seed: seed for the order of the training data.
        root: the folder of the data; None means $ZOO_DATA, the clone's ``data/`` or the user's cache.

    Raises:
        ZooError: an argument is out of its range, or does not go with another one.
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
        self.digest: str | None = None  # only for a file of the user's own
        self.splits: dict[str, Tensor] = {}

    def setup(self, stage: str | None = None) -> None:
        """Read the text and tokenise its parts; raises a ``ZooError`` if the file has changed meanwhile."""
        if not self.splits:
            held = len(self.tokenizer.vocabulary)
            if held != self.vocab_size:
                raise ZooError(f"data.vocab_size={self.vocab_size} is not valid: the vocabulary has {held} tokens")
            self.put(parts(*self.source, self.val_size))
            if self.source[1] is not None:
                self.digest = digest("".join(self.texts[part] for part in ("train", "val", "test")).encode())
            if stamp(self.source[1]) != self.stamp:  # the vocabulary is that of the old content
                raise ZooError(f"{self.source[1]} has changed since this run began to read it; run again")
        if self.rename and stage in ("fit", None):
            self.made_up_names()  # raises early if the text has no speakers

    def contents(self) -> dict[str, str]:
        """The digest of a file of the user's own, by which a resumed run recognises it even if it was moved."""
        return {"data.file": self.digest} if self.digest else {}

    def made_up_names(self) -> speakers.MadeUpNames:
        if self.made_up is None:
            self.made_up = speakers.MadeUpNames(self.texts["train"], self.tokenizer, self.rename, self.batch_size)
        return self.made_up

    def put(self, texts: dict[str, str]) -> None:
        """Use these texts as the parts, and tokenise them."""
        self.texts = texts
        self.splits = {part: self.tokenizer.encode(text) for part, text in texts.items()}
        for part, encoded in self.splits.items():
            if texts[part] and len(encoded) < 2:
                raise ZooError(f"{self.name}: its {part} part has {len(encoded)} tokens; give a longer text")

    def first(self, n: int) -> tuple["TextData", int]:
        """A copy of the data whose test part has only its first n + 1 characters, and the number of characters to
        predict, which are all but the first.
        """
        few, text = copy.copy(self), self.texts["test"][: n + 1]
        few.texts = {**self.texts, "test": text}
        few.splits = {**self.splits, "test": self.tokenizer.encode(text)}
        return few, len(text) - 1

    def train_dataloader(self) -> Loader:
        """The training part; a resumed run continues where it stopped."""
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
        """The validation part, in which every token but the first is predicted once; no batches if it is empty."""
        return self.evaluation("val") if len(self.splits["val"]) else []

    def test_dataloader(self) -> Loader:
        """The test part, in which every token but the first is predicted once."""
        return self.evaluation("test")

    def evaluation(self, part: str) -> Loader:
        return Evaluation(self.splits[part], self.eval_batch_size, max(self.seq_len, 256), self.eval_context)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """A batch as (x, y), int64 (B, T) each: y has the next token after each token of x, or -100 to ignore it."""
        if len(batch) == 1:  # windows
            return batch[0][:, :-1], batch[0][:, 1:]
        return batch

    # --- what a run reports about its data --------------------------------------------------------------------------

    def sample(self, n: int, split: str = "train") -> tuple[Tensor, Tensor]:
        """The first n segments of a part: tokens, and the next token after each of them, int64 (n, T) each."""
        encoded = self.splits[split]
        length = max(1, min(self.seq_len, (len(encoded) - 1) // n))
        rows = encoded.unfold(0, length + 1, length)[:n]
        return rows[:, :-1], rows[:, 1:]

    def units(self, part: str) -> dict[str, int]:
        """The numbers of tokens, characters, words (including ends of lines) and unknown tokens of a part.

        The first token, which is not predicted, is not counted, nor are its characters.
        """
        text, encoded = self.texts[part], self.splits[part]
        words = len(text.split()) + text.count("\n") - isinstance(self.tokenizer, Words)
        unknown = 0 if self.tokenizer.unknown is None else int((encoded[1:] == self.tokenizer.unknown).sum())
        characters = len(text) - len(self.tokenizer.decode(encoded[:1].tolist()))
        counts = {"tokens": len(encoded) - 1, "characters": characters, "words": words}
        return {**{name: max(1, n) for name, n in counts.items()}, "unknown": unknown}

    def summary(self) -> str:
        """One line with the sizes of the parts."""
        n, v, t = (f"{len(self.splits[part]):,}" for part in ("train", "val", "test"))
        return f"{self.name}: {n} training, {v} validation, {t} test tokens ({self.level}), {self.vocab_size} different"

    def card(self) -> dict[str, Any]:
        """The card's entry about a model's inputs: the tokenizer with its vocabulary."""
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
    """The tokenizer of a training text, cached; ``stamp`` distinguishes versions of a file that changes in a sweep."""
    return tokens.fit(level, parts(name, file, root, val_size)["train"], most)


def tokenizer_of(weight: str | Tokenizer) -> Tokenizer:
    """The tokenizer of shipped weights or of a checkpoint.

    Raises:
        ZooError: the model has no tokenizer.
    """
    from zoo.pretrained.reading import read

    if not isinstance(weight, str):
        return weight
    tokenizer = build(read(weight)[0].preprocess, "preprocess")
    if not isinstance(tokenizer, Tokenizer):
        raise ZooError(f"data.tokenizer={weight} has no tokenizer; give a language model")
    return tokenizer


def vocab_size(*, _parent_: Any) -> int:
    """A resolver for configs: the vocabulary size of a text, from the settings in the same node of the config."""
    data = {key: _parent_.get(key) for key in ("name", "file", "root", "level", "most", "val_size", "tokenizer")}
    if data["tokenizer"]:
        return len(tokenizer_of(data["tokenizer"]).vocabulary)
    where = source(data["name"], data["file"], data["root"])
    sized = data["level"], data["most"], data["val_size"], stamp(data["file"])
    return len(known_tokenizer(*where, *sized).vocabulary)
