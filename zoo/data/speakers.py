"""Made-up names for a play's speakers, so that a language model learns to copy names instead of knowing them by heart.

The plays of a test have speakers that those of training never had, while the headings of speeches are what a model
learns by heart first. So every epoch of training reads the same text with other names in it.
"""

import random
import re
from collections import defaultdict

import torch
from torch import Tensor

from zoo.data.tokens import Characters, Tokenizer
from zoo.errors import ZooError

# a speaker alone in a line: "First Citizen:" or, as other editions print it, "FIRST CITIZEN."
HEADING = re.compile(r"^([A-Z][A-Za-z' ]*):$|^(?!ACT |SCENE )([A-Z][A-Z' ]*)\.$", re.MULTILINE)
LEAST = 0.01  # of a text's lines are headings, or it is no play, or one that is printed in another way


def check(share: float, tokenizer: Tokenizer) -> None:
    """Raise a ``ZooError`` unless a share of names can be replaced in a text of this tokenizer."""
    if not 0 < share <= 1:
        raise ZooError(f"data.rename={share} is not valid: give a share of the names, 0 to 1")
    if not isinstance(tokenizer, Characters):
        raise ZooError(
            "data.rename replaces letters, so it needs tokens that are characters: set data.level=char, and "
            "data.tokenizer=null or one of characters"
        )


class MadeUpNames:
    """The tokens of a text, with names of speakers replaced.

    A speaker's heading is a line of its own that ends in a colon, or one in capitals that ends in a full stop. A name
    is a word of three capitals or more in a heading that the text never has in lower case: ROMEO, but not KING. It is
    replaced, as ROMEO and as Romeo, by as many letters, drawn from how letters follow each other in all names; so the
    text's length stays. All of a piece of the text gets the same name instead.

    Args:
        text: the training text.
        tokenizer: its tokenizer, of characters.
        share: the probability that a name is replaced in a piece, in (0, 1].
        pieces: into how many of the same length the text is cut, 1 or more; as many as streams that read it.

    Raises:
        ZooError: a share out of range, another tokenizer, a text with fewer headings than one in a hundred lines, or
            without names in them.
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
        places: dict[str, list[int]] = defaultdict(list)  # of each way of writing a name
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
        """The text's tokens with other names, int64 (N,), as the generator's state has it."""
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
        """A name of so many letters."""
        name = chance.choice(self.names)[0]
        while len(name) < length:
            follow = self.after.get(name[-2:]) or self.after.get(name[-1]) or [chance.choice(self.names)[0]]
            name += chance.choice(follow)
        return name
