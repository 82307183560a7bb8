"""Byte-pair tokens that two or more languages share, for a model that translates between them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from zoo.data.tokens import BPE
from zoo.errors import ZooError

PAD, END = 0, 1  # the token that fills the rows of a batch, and the one that ends a sentence


class JointTokens:
    """From sentences to token numbers and back; the ``preprocess`` of a model that translates.

    All languages share one byte-pair encoding (Sennrich et al. 2016, section 3.2: joint BPE), so names and numbers have
    the same tokens in each. Token 0 pads, token 1 ends a sentence, and the next ones are one per language: a target
    sentence begins with the token of its language. Encoding loses nothing but spaces at the ends of a sentence.

    Args:
        content: the JSON of the ``tokenizers`` library; see ``zoo.data.tokens.BPE``.
        languages: short names of the languages, such as ["de", "en"]: first the source, then the target.

    Raises:
        ZooError: the content is damaged, or there are fewer than two languages.
    """

    def __init__(self, content: str, languages: Sequence[str]):
        if len(languages) < 2 or len({*languages}) != len(languages):
            raise ZooError(f"data.languages={list(languages)} is not valid: give two different names, as [de,en]")
        self.bpe, self.languages = BPE(content), list(languages)
        self.first = 2 + len(self.languages)  # number of the first byte-pair token
        marks = ["<pad>", "<end>", *(f"<{language}>" for language in self.languages)]
        self.vocabulary = [*(mark.encode() for mark in marks), *self.bpe.vocabulary]

    @classmethod
    def fit(cls, texts: Sequence[Sequence[str]], languages: Sequence[str], size: int) -> "JointTokens":
        """Learn the byte pairs from the training sentences of all languages together.

        Args:
            texts: the sentences of each language.
            size: largest number of tokens in all.
        """
        marks = 2 + len(languages)
        if size < 256 + marks:
            raise ZooError(f"data.most={size} is not valid: two languages need {256 + marks} tokens or more")
        # each sentence begins with a space, so that its first word has the same tokens as within a sentence
        joined = "".join(f" {sentence}\n" for text in texts for sentence in text)
        return cls(BPE.fit(joined, size - marks).content, languages)

    def start(self, language: str) -> int:
        """The token with which a sentence in a language begins."""
        return 2 + self.languages.index(language)

    @property
    def target(self) -> int:
        """The token with which a translation begins."""
        return self.start(self.languages[1])

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """The tokens of each sentence, followed by ``END``."""
        found = self.bpe.tokenizer.encode_batch_fast([f" {sentence.strip()}" for sentence in sentences])
        return [[*(self.first + token for token in row.ids), END] for row in found]

    def padded(self, sentences: Sequence[str]) -> Tensor:
        """Source sentences as tokens, int64 (N, S), each with ``END`` and then padded."""
        return padded(self.encode(sentences))

    def padded_targets(self, sentences: Sequence[str], language: str) -> Tensor:
        """Target sentences as tokens, int64 (N, T): the language's token, the sentence, ``END``, padding."""
        return padded([[self.start(language), *row] for row in self.encode(sentences)])

    def decode(self, tokens: Sequence[int]) -> str:
        """The sentence of a row of tokens up to the first ``END``; padding and languages' tokens have no text."""
        kept = tokens[: tokens.index(END)] if END in tokens else tokens  # type: ignore[attr-defined]
        return self.bpe.decode([token - self.first for token in kept if token >= self.first]).strip()

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """The text of each token, for pictures; a part of a character is shown as U+FFFD."""
        return [self.vocabulary[token].decode(errors="replace").strip() or "␣" for token in tokens]

    def config(self) -> dict[str, Any]:
        """Plain values for a card, from which ``zoo.config.build.build`` makes the tokenizer again."""
        return {"_target_": "zoo.data.joint.JointTokens", "content": self.bpe.content, "languages": self.languages}

    def random_input(self, n: int) -> Tensor:
        """A random batch to try a model with, int64 (n, 2, 16): source and target; equal n give equal batches."""
        generator = torch.Generator().manual_seed(n)
        x = torch.randint(self.first, len(self.vocabulary), (n, 2, 16), generator=generator)
        x[:, 0, -1], x[:, 1, 0] = END, self.target
        return x


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Rows of tokens as one tensor (N, longest), padded at their ends."""
    return pad_sequence([torch.tensor(row, dtype=torch.int64) for row in rows], batch_first=True, padding_value=PAD)
