"""From text to tokens and back: characters, bytes, words, and byte-pair encoding.

A tokenizer's ``config()`` has everything it knows, as plain values that are stored in a model's checkpoint and card.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.data.byte_pairs import byte_level, library, pieces, signs, vocabulary_and_merges
from zoo.errors import ZooError

UNKNOWN = "\ufffd"  # an unknown character decodes to this


class Tokenizer(ABC):
    """From text to token numbers and back; a language model's ``preprocess``.

    Attributes:
        vocabulary: the text of each token, or its bytes if a token may be a part of a character.
        unknown: the number of the token that stands for anything outside the vocabulary; None if every text can be
            encoded without it.
    """

    vocabulary: Sequence[Any]  # str or bytes
    unknown: int | None

    @abstractmethod
    def encode(self, text: str) -> Tensor:
        """The token numbers of a text, int64 (N,)."""

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """The text of a sequence of tokens."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Plain values for a card, from which ``zoo.config.build.build`` makes the tokenizer again."""

    def random_input(self, n: int) -> Tensor:
        """A random batch of tokens to try a model with, int64 (n, 32); equal n give equal batches."""
        return torch.randint(len(self.vocabulary), (n, 32), generator=torch.Generator().manual_seed(n))


class Characters(Tokenizer):
    """One token per character (Unicode code point); token 0 stands for any character outside the vocabulary.

    Args:
        vocabulary: the known characters, in one string.
    """

    unknown = 0

    def __init__(self, vocabulary: str):
        if not vocabulary:
            raise ZooError("the tokenizer is damaged: its vocabulary is empty")
        self.vocabulary = [UNKNOWN, *vocabulary]
        points = points_of(vocabulary)  # code points, sorted if the vocabulary is from fit()
        self.order = np.argsort(points)
        self.points = points[self.order]

    @classmethod
    def fit(cls, text: str, size: int | None = None) -> "Characters":
        """A vocabulary of all characters of a text, or of the ``size`` − 1 most frequent ones."""
        counts = Counter(text)
        known = sorted(counts) if size is None else sorted(c for c, _ in ranked(counts)[: size - 1])
        return cls("".join(known))

    def encode(self, text: str) -> Tensor:
        points = points_of(text)
        at = np.searchsorted(self.points, points).clip(max=len(self.points) - 1)
        return torch.from_numpy(np.where(self.points[at] == points, self.order[at] + 1, 0))

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(self.vocabulary[token] for token in tokens)

    def config(self) -> dict[str, Any]:
        return {"_target_": "zoo.data.tokens.Characters", "vocabulary": "".join(self.vocabulary[1:])}


class Bytes(Tokenizer):
    """One token per byte of the text in UTF-8: 256 tokens, and no unknown ones."""

    unknown = None

    def __init__(self) -> None:
        self.vocabulary = [bytes([i]) for i in range(256)]

    def encode(self, text: str) -> Tensor:
        return torch.from_numpy(np.frombuffer(text.encode(), np.uint8).astype(np.int64))

    def decode(self, tokens: Sequence[int]) -> str:
        return bytes(tokens).decode(errors="replace")

    def config(self) -> dict[str, Any]:
        return {"_target_": "zoo.data.tokens.Bytes"}


class Words(Tokenizer):
    """One token per word, separated by white space, and one for the end of a line; token 0 stands for any word outside
    the vocabulary.

    The files of Penn Treebank and WikiText are made for this: punctuation is separated from words, and their own symbol
    for a word outside the vocabulary, ``<unk>``, is token 0 too.

    Args:
        vocabulary: the known words, without the two special tokens ``<unk>`` and ``<eos>``.
    """

    unknown = 0
    SPECIAL = ("<unk>", "<eos>")

    def __init__(self, vocabulary: Sequence[str]):
        self.vocabulary = [*self.SPECIAL, *vocabulary]
        self.numbers = {word: i for i, word in enumerate(self.vocabulary)}

    @classmethod
    def fit(cls, text: str, size: int | None = None) -> "Words":
        """A vocabulary of all words of a text, or of the most frequent ones, with at most ``size`` tokens in all."""
        counts = Counter(text.split())
        for special in cls.SPECIAL:
            counts.pop(special, None)
        return cls([word for word, _ in ranked(counts)[: None if size is None else size - 2]])

    def encode(self, text: str) -> Tensor:
        eos = self.numbers["<eos>"]
        tokens: list[int] = []
        for line in text.split("\n"):
            tokens += [self.numbers.get(word, 0) for word in line.split()]
            tokens.append(eos)
        return torch.tensor(tokens[:-1], dtype=torch.int64)  # the last piece has no line end after it

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join("\n" if token == 1 else f"{self.vocabulary[token]} " for token in tokens)

    def config(self) -> dict[str, Any]:
        return {"_target_": "zoo.data.tokens.Words", "vocabulary": self.vocabulary[len(self.SPECIAL) :]}


class BPE(Tokenizer):
    """Byte-pair encoding of bytes (Sennrich et al. 2016, Radford et al. 2019), with the ``tokenizers`` library.

    Args:
        content: the library's own JSON. Only its vocabulary and merges are used, because other entries may ask for
            padding to any length or for another way to split a text, or may crash the library.

    Raises:
        ZooError: the content is not such JSON.
    """

    unknown = None

    def __init__(self, content: str):
        numbers, merges = vocabulary_and_merges(content)
        self.content, self.tokenizer = content, byte_level(library().models.BPE(numbers, merges))
        alphabet = {sign: byte for byte, sign in enumerate(signs())}
        names = sorted(numbers, key=numbers.__getitem__)
        self.vocabulary = [bytes(alphabet[sign] for sign in name) for name in names]

    @classmethod
    def fit(cls, text: str, size: int | None = None) -> "BPE":
        """Learn merges from a text until there are ``size`` tokens; None means 1024."""
        from_library = library()
        tokenizer = byte_level(from_library.models.BPE())
        trainer = from_library.trainers.BpeTrainer(
            vocab_size=size or 1024,
            initial_alphabet=from_library.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(pieces(text), trainer)
        return cls(tokenizer.to_str())

    def encode(self, text: str) -> Tensor:
        lines = self.tokenizer.encode_batch_fast(pieces(text))
        return torch.tensor([token for line in lines for token in line.ids], dtype=torch.int64)

    def decode(self, tokens: Sequence[int]) -> str:
        return b"".join(self.vocabulary[token] for token in tokens).decode(errors="replace")

    def config(self) -> dict[str, Any]:
        return {"_target_": "zoo.data.tokens.BPE", "content": self.content}


LEVELS: dict[str, Any] = {"char": Characters, "byte": Bytes, "word": Words, "bpe": BPE}


def fit(level: str, text: str, size: int | None = None) -> Tokenizer:
    """Make a tokenizer from a training text.

    Args:
        level: kind of token: "char", "byte", "word" or "bpe".
        text: the training text.
        size: largest size of the vocabulary, ignored for bytes; None means every character or word, and 1024 for bpe.

    Raises:
        ZooError: the level is unknown, or the size is too small for it.
    """
    if level not in LEVELS:
        raise ZooError(f"data.level={level} is not valid: {', '.join(LEVELS)}")
    if level == "byte":
        return Bytes()
    least = {"char": 2, "word": 3, "bpe": 256}[level]
    if size is not None and size < least:
        raise ZooError(f"data.most={size} is not valid: level={level} needs {least} or more")
    return LEVELS[level].fit(text, size)


def ranked(counts: "Counter[str]") -> list[tuple[str, int]]:
    """The items by descending frequency; ties are in alphabetical order, so the order in the text does not matter."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def points_of(text: str) -> np.ndarray:
    """The code points of a text, int64 (N,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
