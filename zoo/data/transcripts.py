"""From what is said to token numbers and back: letters or whole words, with number 0 for the blank of CTC."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from zoo.errors import ZooError

Units = Literal["letter", "word"]
MOST = 20_000  # tokens of the largest vocabulary
BLANK = 0
UNKNOWN = "\ufffd"


class Transcripts:
    """The tokens of transcripts.

    Args:
        units: whether a token is a letter (or any other character) or a whole word.
        vocabulary: the tokens from number 1 on; number 0 is the blank.
    """

    def __init__(self, units: Units, vocabulary: Sequence[str]):
        if units not in get_args(Units):
            raise ZooError(f"units={units} is not valid: {', '.join(get_args(Units))}")
        good = all(isinstance(token, str) and token for token in vocabulary) and len(set(vocabulary)) == len(vocabulary)
        if not good or not 1 <= len(vocabulary) <= MOST or (units == "letter" and max(map(len, vocabulary)) > 1):
            raise ZooError(f"vocabulary is not valid: 1 to {MOST:,} different {units}s")
        self.units, self.vocabulary = units, list(vocabulary)
        self.numbers = {token: i for i, token in enumerate(self.vocabulary, 1)}

    @classmethod
    def fit(cls, units: Units, texts: Iterable[str]) -> "Transcripts":
        """The vocabulary of all letters or words in some texts, in alphabetical order."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(split(units, text))
        if not counts:
            raise ZooError("the transcripts have no words in them; write what is said in each recording")
        return cls(units, sorted(counts))

    def __len__(self) -> int:
        return len(self.vocabulary) + 1

    def encode(self, text: str) -> Tensor:
        """The numbers of a text's tokens, int64 (L,); a token that is not in the vocabulary has the number ``len``."""
        return torch.tensor([self.numbers.get(t, len(self)) for t in split(self.units, text)], dtype=torch.int64)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of token numbers; blanks are left out, and unknown tokens become U+FFFD."""
        known = [*self.vocabulary, UNKNOWN]
        return (" " if self.units == "word" else "").join(known[t - 1] for t in tokens if t != BLANK)


def split(units: str, text: str) -> Sequence[str]:
    return text.split() if units == "word" else text


def plain(text: str) -> str:
    """A text as it is compared: composed characters (NFC), one space between words, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())
