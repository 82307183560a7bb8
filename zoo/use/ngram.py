"""N-grams of letters or words as tables, which a beam search looks up for a whole batch at a time.

A table has a row for each context that occurs in the training text and a column for each token; column 0 is the end of
a sentence. The probabilities are interpolated with those of the shorter context (Witten and Bell 1991; Chen and Goodman
1999, section 2.4).
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from zoo.data.transcripts import Transcripts
from zoo.errors import ZooError

END = 0
ORDERS = (0, 6)  # the lowest and the highest order
LARGEST = 20_000_000  # most numbers of a table
NEVER = -1e4  # the score of what a lexicon does not have; finite, so that some text is always found


class Ngram(NamedTuple):
    """An n-gram.

    Attributes:
        scores: log-probabilities in nats, (S, V): of each token after each context.
        after: int64 (S, V), the context after each token.
        start: the number of the context at the beginning of a sentence.
    """

    scores: Tensor
    after: Tensor
    start: int


def fit_ngram(sentences: Sequence[Sequence[int]], size: int, order: int) -> Ngram:
    """An n-gram of sentences of token numbers.

    Args:
        sentences: the sentences, whose tokens are 1 … size − 1.
        size: the number of different tokens, with the end of a sentence.
        order: how many tokens it looks at, with the predicted one, 1 or more; 0 gives all tokens the same probability.

    Raises:
        ZooError: the order is out of range, or the table would be too large.
    """
    if not ORDERS[0] <= order <= ORDERS[1]:
        raise ZooError(f"task.order={order} is not valid: {ORDERS[0]} to {ORDERS[1]}")
    counts: dict[tuple[int, ...], Counter[int]] = {(): Counter()}
    begin = -1  # stands before the first token
    for sentence in sentences:
        padded = [begin, *sentence, END]
        for i in range(1, len(padded)):
            for n in range(min(i, order - 1) + 1 if order else 0):
                counts.setdefault(tuple(padded[i - n : i]), Counter())[padded[i]] += 1
    if len(counts) * size > LARGEST:
        raise ZooError(
            f"an n-gram of order {order} over {size} tokens is too large ({len(counts):,} contexts); give a lower order"
        )
    contexts = sorted(counts, key=len)  # a shorter context comes before those that end in it
    number = {context: i for i, context in enumerate(contexts)}
    chances = torch.empty(len(contexts), size, dtype=torch.float64)
    after = torch.zeros(len(contexts), size, dtype=torch.int64)
    for i, context in enumerate(contexts):
        seen = counts[context]
        shorter = number[context[1:]] if context else 0
        lower = chances[shorter] if context else torch.full((size,), 1 / size, dtype=torch.float64)
        kinds, total = len(seen), sum(seen.values())
        row = lower * kinds
        if seen:
            row[list(seen)] += torch.tensor(list(seen.values()), dtype=torch.float64)
        chances[i] = row / (kinds + total) if seen else lower
        after[i] = after[shorter] if context else 0
        if len(context) < order:
            for token in seen:
                longer = (*context, token)
                if longer in number:
                    after[i, token] = number[longer]
    return Ngram(chances.log().float(), after, number.get((begin,), 0))


class Graph:
    """What a beam search may write next, and its score.

    Args:
        transcripts: the tokens of the model.
        sentences: texts for the n-gram.
        order: its order; 0 uses none.
        of_words: for a model of letters, an n-gram of words, which are the only ones that can be written.
        weight, insertion: the weight of the n-gram's log-probability, and the bonus for each of its tokens.
    """

    def __init__(
        self,
        transcripts: Transcripts,
        sentences: Sequence[str],
        order: int = 2,
        of_words: bool = True,
        weight: float = 0.5,
        insertion: float = 0.0,
    ):
        self.weight, self.insertion = weight, insertion
        self.words = of_words and transcripts.units == "letter" and order > 0 and " " in transcripts.numbers
        if order and not sentences:
            raise ZooError("there are no training transcripts to make an n-gram of; set task.order=0")
        if not self.words:
            self.ngram = fit_ngram([transcripts.encode(s).tolist() for s in sentences], len(transcripts), order)
            self.start = self.ngram.start
            return
        words = sorted({word for sentence in sentences for word in sentence.split()})
        numbers = {word: i for i, word in enumerate(words, 1)}
        said = [[numbers[word] for word in sentence.split()] for sentence in sentences]
        self.ngram = fit_ngram(said, len(words) + 1, order)
        self.space = transcripts.numbers[" "]
        self.trie, self.word = trie_of(words, transcripts)
        self.start = self.ngram.start * len(self.trie)

    def score(self, table: Tensor) -> Tensor:
        return self.weight * table + self.insertion

    def step(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """From states (...) to the states after each token and the scores of these tokens, (..., K) each."""
        if not self.words:
            return self.ngram.after[state], self.score(self.ngram.scores[state])
        n = len(self.trie)
        context, node = state // n, state % n
        to = self.trie[node]  # (..., K)
        after = context[..., None] * n + to.clamp(min=0)
        score = torch.where(to < 0, NEVER, 0.0)
        word = self.word[node]  # 0 if the node ends no word
        after[..., self.space] = self.ngram.after[context, word] * n
        score[..., self.space] = torch.where(word > 0, self.score(self.ngram.scores[context, word]), NEVER)
        return after, score

    def end(self, state: Tensor) -> Tensor:
        """The score of ending a text in each state."""
        if not self.words:
            return self.weight * self.ngram.scores[state, END]
        n = len(self.trie)
        context, node = state // n, state % n
        word = self.word[node]
        last = torch.where(word > 0, self.ngram.after[context, word], context)
        said = torch.where(word > 0, self.score(self.ngram.scores[context, word]), torch.where(node > 0, NEVER, 0.0))
        return said + self.weight * self.ngram.scores[last, END]


def trie_of(words: Sequence[str], transcripts: Transcripts) -> tuple[Tensor, Tensor]:
    """The spellings of words as a tree: the node after each letter, int64 (N, K), −1 for none; and each node's word."""
    rows: list[dict[int, int]] = [{}]
    ends = {0: 0}
    for number, word in enumerate(words, 1):
        node = 0
        for letter in transcripts.encode(word).tolist():
            if letter not in rows[node]:
                rows[node][letter] = len(rows)
                rows.append({})
            node = rows[node][letter]
        ends[node] = number
    trie = torch.full((len(rows), len(transcripts)), -1, dtype=torch.int64)
    for i, row in enumerate(rows):
        for letter, node in row.items():
            trie[i, letter] = node
    return trie, torch.tensor([ends.get(i, 0) for i in range(len(rows))])
