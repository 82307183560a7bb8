"""From text to tokens and back: characters, bytes, words, and byte-pair encoding.

What a tokenizer knows is in its ``config()``, plain values that travel in a model's checkpoint and card.
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

UNKNOWN = "\ufffd"  # what an unknown character or word reads as


class Tokenizer(ABC):
    """Text to token numbers and back; a model's ``preprocess``.

    Attributes:
        vocabulary: what each token reads as; bytes where a token may be a part of a character.
        unknown: the number that stands for what the vocabulary has not, or None where nothing is unknown.
    """

    vocabulary: Sequence[Any]  # of str, or of bytes
    unknown: int | None

    @abstractmethod
    def encode(self, text: str) -> Tensor:
        """Token numbers, int64 (N,)."""

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """The text that tokens stand for."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Plain values for a card, from which ``zoo.config.build.build`` makes it again."""

    def random_input(self, n: int) -> Tensor:
        """A batch that a model can be tried with: int64 (n, 32), the same for the same n."""
        return torch.randint(len(self.vocabulary), (n, 32), generator=torch.Generator().manual_seed(n))


class Characters(Tokenizer):
    """A token a character (a Unicode code point); token 0 is any that the vocabulary has not.

    Args:
        vocabulary: the characters known, in one string.
    """

    unknown = 0

    def __init__(self, vocabulary: str):
        if not vocabulary:
            raise ZooError("the tokenizer is damaged: its vocabulary is empty")
        self.vocabulary = [UNKNOWN, *vocabulary]
        points = points_of(vocabulary)  # code points, sorted where fit() made it
        self.order = np.argsort(points)
        self.points = points[self.order]

    @classmethod
    def fit(cls, text: str, size: int | None = None) -> "Characters":
        """Of a text's characters all, or the ``size`` - 1 most frequent."""
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
    """A token a byte of the text in UTF-8; 256 of them, and nothing is unknown."""

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
    """A token a word, as spaces part them, and one for the end of a line; token 0 is any other word.

    Penn Treebank's and WikiText's files are made for it: their punctuation stands apart, and their own sign for a word
    out of the vocabulary, ``<unk>``, is token 0 too.

    Args:
        vocabulary: the words known, without the two tokens that are always there.
    """

    unknown = 0
    SPECIAL = ("<unk>", "<eos>")

    def __init__(self, vocabulary: Sequence[str]):
        self.vocabulary = [*self.SPECIAL, *vocabulary]
        self.numbers = {word: i for i, word in enumerate(self.vocabulary)}

    @classmethod
    def fit(cls, text: str, size: int | None = None) -> "Words":
        """Of a text's words all, or the most frequent, so that there are ``size`` tokens."""
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
        return torch.tensor(tokens[:-1], dtype=torch.int64)  # the last line has no end, or is empty

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join("\n" if token == 1 else f"{self.vocabulary[token]} " for token in tokens)

    def config(self) -> dict[str, Any]:
        return {"_target_": "zoo.data.tokens.Words", "vocabulary": self.vocabulary[len(self.SPECIAL) :]}


class BPE(Tokenizer):
    """Byte-pair encoding of bytes (Sennrich et al. 2016, Radford et al. 2019), by the ``tokenizers`` library.

    Args:
        content: the library's own JSON. Its vocabulary and merges alone are taken: the rest may ask for padding to any
            length, for other ways to part a text, or for what ends the library's process.

    Raises:
        ZooError: the content is no such JSON.
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
        """Merges learned from a text until there are ``size`` tokens, 1024 where it is not said."""
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
    """A tokenizer of a level, "char", "byte", "word" or "bpe", for a training text.

    Raises:
        ZooError: an unknown level, or a size that it cannot have.
    """
    if level not in LEVELS:
        raise ZooError(f"data.level={level} is not valid: {', '.join(LEVELS)}")
    if level == "byte":
        return Bytes()
    least = {"char": 2, "word": 3, "bpe": 256}[level]
    if size is not None and size < least:
        raise ZooError(f"data.vocab_size={size} is not valid: level={level} needs {least} or more")
    return LEVELS[level].fit(text, size)


def ranked(counts: "Counter[str]") -> list[tuple[str, int]]:
    """The most frequent first, and of as frequent ones in the order of the alphabet, whatever the text's order."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def points_of(text: str) -> np.ndarray:
    """Code points, int64 (N,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
