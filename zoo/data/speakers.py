"""Invented names for a play's speakers, so that a language model learns to copy names instead of memorising them.

The plays in the test set have speakers who do not occur in the training set, and the headings of speeches are what a
model memorises first. Therefore every epoch of training reads the same text with different names.
"""

import random
import re
from collections import defaultdict

import torch
from torch import Tensor

from zoo.data.tokens import Characters, Tokenizer
from zoo.errors import ZooError

# A speaker's name on a line of its own: "First Citizen:" or, in other editions, "FIRST CITIZEN."
HEADING = re.compile(r"^([A-Z][A-Za-z' ]*):$|^(?!ACT |SCENE )([A-Z][A-Z' ]*)\.$", re.MULTILINE)
LEAST = 0.01  # smallest share of headings among the lines; a text with fewer is no play, or has another layout


def check(share: float, tokenizer: Tokenizer) -> None:
    """Raise a ``ZooError`` unless the share is in (0, 1] and the tokens are characters."""
    if not 0 < share <= 1:
        raise ZooError(f"data.rename={share} is not valid: give a share of the names, 0 to 1")
    if not isinstance(tokenizer, Characters):
        raise ZooError(
            "data.rename replaces letters, so it needs tokens that are characters: set data.level=char, and "
            "data.tokenizer=null or one of characters"
        )


class MadeUpNames:
    """The tokens of a text in which the names of speakers are replaced.

    A speaker's heading is a line of its own that ends in a colon, or one in capitals that ends in a full stop. A name
    is a word of at least three capitals in a heading which never occurs in lower case in the text: ROMEO, but not KING.
    It is replaced, as ROMEO and as Romeo, by an invented name of the same length, so that the length of the text does
    not change. Each letter of the new name is drawn from the letters that follow the same one or two letters in any of
    the names. Within one draw and one piece of the text, a name is always replaced by the same new name.

    Args:
        text: the training text.
        tokenizer: its tokenizer, whose tokens must be characters.
        share: the probability that a name is replaced in a piece, in (0, 1].
        pieces: number of pieces of equal length into which the text is cut, 1 or more; one per stream that is read.

    Raises:
        ZooError: the share is out of range, the tokens are not characters, fewer than one in a hundred lines are
            headings, or the headings contain no names.
    """

    def __init__(self, text: str, tokenizer: Tokenizer, share: float, pieces: int):
        check(share, tokenizer)
        self.tokenizer, self.share, self.pieces = tokenizer, share, pieces
        self.tokens = tokenizer.encode(text)
        words = set(re.findall(r"\w+", text))
        headings, lines = [match[0] for match in HEADING.finditer(text)], text.count("\n") + 1
        found = {word for heading in headings for word in re.findall(r"\b[A-Z]{3,}\b", heading)}
        self.names = sorted(name for name in found if name.lower() not in words)
        if len(headings) < LEAST * lines or not self.names:
            raise ZooError(
                f"data.rename needs a play whose speakers stand alone in a line, in capitals, as 'ROMEO:' or 'ROMEO.': "
                f"of {lines:,} lines {len(headings)} do, with {len(self.names)} names in capitals; set data.rename=0"
            )
        places: dict[str, list[int]] = defaultdict(list)  # by spelling: ROMEO or Romeo
        either = "|".join(f"{name}|{name.capitalize()}" for name in self.names)
        for match in re.finditer(rf"\b(?:{either})\b", text):
            places[match[0]].append(match.start())
        self.places = {written: torch.tensor(starts) for written, starts in places.items()}
        self.after: dict[str, list[str]] = defaultdict(list)  # letters seen after one or two letters
        for name in self.names:
            for i in range(1, len(name)):
                for seen in {name[i - 1 : i], name[max(0, i - 2) : i]}:
                    self.after[seen].append(name[i])

    def draw(self, generator: torch.Generator) -> Tensor:
        """Draw new names and return the text's tokens with them, int64 (N,); the generator's state determines them."""
        chance = random.Random(int(torch.randint(2**62, (), generator=generator)))
        tokens = self.tokens.clone()
        for name in self.names:
            new = [
                self.made_up(len(name), chance) if chance.random() < self.share else name for _ in range(self.pieces)
            ]
            for old, others in ((name, new), (name.capitalize(), [n.capitalize() for n in new])):
                if old in self.places:
                    starts = self.places[old]
                    letters = self.tokenizer.encode("".join(others)).view(self.pieces, len(name))
                    tokens[starts[:, None] + torch.arange(len(name))] = letters[starts * self.pieces // len(tokens)]
        return tokens

    def made_up(self, length: int, chance: random.Random) -> str:
        """Draw a name of ``length`` letters."""
        name = chance.choice(self.names)[0]
        while len(name) < length:
            follow = self.after.get(name[-2:]) or self.after.get(name[-1]) or [chance.choice(self.names)[0]]
            name += chance.choice(follow)
        return name
