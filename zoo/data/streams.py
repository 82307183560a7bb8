"""Loaders that read a text as parallel streams, one segment after the other, for training and for evaluation."""

from collections.abc import Callable

import torch
from torch import Tensor

from zoo.arguments import Seed
from zoo.data.loader import Loader


class StreamLoader(Loader):
    """Reads a text as parallel streams, in segments: each batch continues where the previous one ended.

    A batch is (x, y), int64 (streams, seq_len) each, where y has the next token after each token of x. Each epoch
    starts at a random place within the first ``seq_len`` tokens, so that the boundaries of the segments vary.

    Args:
        tokens: int64 (N,).
        streams: number of parallel streams, over all processes.
        seq_len: steps per segment; the last segment of an epoch may be shorter.
        seed, rank, world_size: see ``Loader``.
        draw: a function from a random generator to the tokens of an epoch, of the same number N; None uses ``tokens``
            in every epoch.
    """

    def __init__(
        self,
        tokens: Tensor,
        streams: int,
        seq_len: int,
        seed: Seed = 0,
        rank: int = 0,
        world_size: int = 1,
        draw: Callable[[torch.Generator], Tensor] | None = None,
    ):
        super().__init__(seed, rank, world_size)
        self.tokens, self.streams, self.seq_len, self.draw = tokens, streams, seq_len, draw
        self.steps = (len(tokens) - seq_len) // streams  # per stream, for every starting place

    def __len__(self) -> int:
        return -(-self.steps // self.seq_len)

    def plan(self) -> Tensor:
        generator = self.generator()
        start = int(torch.randint(self.seq_len, (), generator=generator))
        # the last token of each row is only a target; it is also the first input of the next stream
        tokens = self.tokens if self.draw is None else self.draw(generator)
        tokens = tokens[start : start + self.streams * self.steps + 1]
        return tokens.unfold(0, self.steps + 1, self.steps)[self.rank :: self.world_size]  # (streams, steps + 1)

    def take(self, plan: Tensor, i: int) -> tuple[Tensor, Tensor]:
        stretch = plan[:, i * self.seq_len : (i + 1) * self.seq_len + 1]
        return stretch[:, :-1], stretch[:, 1:]


class Evaluation(Loader):
    """Reads a text as parallel streams such that every token except the first is predicted exactly once.

    Every stream but the first starts ``context`` tokens early and reads these without predicting. So each prediction is
    based on at least ``context`` tokens, or on all tokens before it if there are fewer. Batches are as in
    ``StreamLoader``, with -100 in y for tokens that are not predicted.

    Args:
        tokens: int64 (N,) with N ≥ 2.
        streams: largest number of parallel streams; a short text has fewer. With several processes, each reads all
            streams.
        seq_len: steps per segment.
        context: tokens that a stream reads before its first prediction.
    """

    def __init__(self, tokens: Tensor, streams: int, seq_len: int, context: int):
        super().__init__()
        self.keeps_place = False
        self.seq_len = seq_len
        predicted = len(tokens) - 1
        context = min(context, max(0, predicted))  # there are no more tokens to read
        streams = max(1, min(streams, predicted // (2 * context + 1)))  # at least twice the context long
        share = -(-max(predicted - context, 1) // streams)  # the first stream predicts `context` tokens more
        padded = torch.cat([tokens, tokens.new_zeros(context + streams * share + 1 - len(tokens))])
        rows = padded.unfold(0, context + share + 1, share)  # (streams, context + share + 1)
        self.x, self.y = rows[:, :-1], rows[:, 1:].clone()
        self.y[1:, :context] = -100
        place = torch.arange(streams)[:, None] * share + torch.arange(context + share)
        self.y[place >= predicted] = -100

    def __len__(self) -> int:
        return -(-self.x.shape[1] // self.seq_len)

    def plan(self) -> None:
        return None

    def take(self, plan: None, i: int) -> tuple[Tensor, Tensor]:
        at = slice(i * self.seq_len, (i + 1) * self.seq_len)
        return self.x[:, at], self.y[:, at]
