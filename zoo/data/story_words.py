"""Words of stories: from sentences to tokens and back, and what a model of stories reads (its ``preprocess``)."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.contracts import Story
from zoo.data.glances import WIDTHS, Kind, read_features
from zoo.errors import ZooError

UNKNOWN, STOP = 0, 1  # tokens: a word outside the vocabulary; the end of a page's text, which also begins each
ENDS = (".", "!", "?")
PIECE = re.compile(r"[^\W_]+(?:['-][^\W_]+)*|[.,!?;:]")
MOST_WORDS = 100_000  # largest vocabulary


def pieces(text: str) -> list[str]:
    """The words and punctuation marks of a text, in lower case; quotation marks and other signs are left out."""
    return PIECE.findall(text.lower().replace("’", "'"))


def cut(words: Sequence[str], longest: int) -> list[str]:
    """The first sentences that have at most ``longest`` words together; the first words if not even one has."""
    if len(words) <= longest:
        return list(words)
    ends = [i + 1 for i, word in enumerate(words[:longest]) if word in ENDS]
    return list(words[: ends[-1] if ends else longest])


def vocabulary(texts: Iterable[Sequence[str]], at_least: int) -> str:
    """The words that occur at least so often, the most frequent first and ties by alphabet, separated by spaces."""
    counts = Counter(word for words in texts for word in words)
    return " ".join(word for word, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n >= at_least)


class StoryReader:
    """A story model's ``preprocess``: pictures to features, and words to tokens and back.

    Token 0 stands for a word outside the vocabulary; token 1 ends the text of a page and begins the next one.

    Args:
        vocabulary: the known words, separated by spaces.
        features: what turns pictures into numbers; see ``zoo.data.glances``.
    """

    def __init__(self, vocabulary: str, features: Kind):
        known = vocabulary.split()
        if not 1 <= len(known) <= MOST_WORDS or len(set(known)) < len(known) or features not in WIDTHS:
            raise ZooError(
                f"the reader of stories is damaged: {len(known):,} words, features={features}; valid: 1 to "
                f"{MOST_WORDS:,} different words, {', '.join(WIDTHS)}"
            )
        self.known: list[str] = ["<unk>", "<stop>", *known]
        self.numbers = {word: i for i, word in enumerate(self.known)}
        self.features: Kind = features

    def encode(self, words: Iterable[str]) -> list[int]:
        """The tokens of words as ``pieces`` gives them."""
        return [self.numbers.get(word, UNKNOWN) for word in words]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens as it is written: capitals at the beginning of sentences, no space before marks."""
        text, begins = "", True
        for word in (self.known[token] for token in tokens if token != STOP):
            mark = word in ".,!?;:"
            word = word[0].upper() + word[1:] if begins and not mark else "I" if word == "i" else word
            text += word if mark or not text else f" {word}"
            begins = word in ENDS
        return text

    def read(self, paths: Sequence[Path]) -> Tensor:
        """The features of picture files, float32 (1, N, F)."""
        return read_features(self.features, paths)[None]

    def random_input(self, n: int) -> Story:
        """A random batch of n stories of five pages to try a model with; equal n give equal batches."""
        generator = torch.Generator().manual_seed(n)
        words = torch.randint(len(self.known), (n, 30), generator=generator)
        page = torch.arange(30).div(6, rounding_mode="floor").expand(n, -1)
        return Story(torch.randn(n, 5, WIDTHS[self.features], generator=generator), words, page)

    def config(self) -> dict[str, Any]:
        """Plain values for a card, from which ``zoo.config.build.build`` makes the reader again."""
        words = " ".join(self.known[2:])
        return {"_target_": "zoo.data.story_words.StoryReader", "vocabulary": words, "features": self.features}
