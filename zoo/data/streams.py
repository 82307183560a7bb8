"""A text as parallel streams that are read a stretch at a time, for training and for evaluation."""

from collections.abc import Callable

import torch
from torch import Tensor

from zoo.arguments import Seed
from zoo.data.loader import Loader


class StreamLoader(Loader):
    """A text as parallel streams, read a stretch at a time, so that each batch goes on where the one before ended.

    A batch is (x, y), int64 (streams, seq_len) each, y the tokens after those of x. In training every epoch begins at
    another place among the first ``seq_len`` tokens, so that the stretches are not always the same.

    Args:
        tokens: int64 (N,).
        streams: parallel ones, over all processes.
        seq_len: steps a stretch; the last of an epoch may be shorter.
        seed, rank, world_size: see ``Loader``.
        draw: gives an epoch's tokens, as many, by its generator; None reads the same in every epoch.
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
        self.steps = (len(tokens) - seq_len) // streams  # of a stream, wherever it begins

    def __len__(self) -> int:
        return -(-self.steps // self.seq_len)

    def plan(self) -> Tensor:
        generator = self.generator()
        start = int(torch.randint(self.seq_len, (), generator=generator))
        # each stream's inputs, and the token after them, which is the next stream's first
        tokens = self.tokens if self.draw is None else self.draw(generator)
        tokens = tokens[start : start + self.streams * self.steps + 1]
        return tokens.unfold(0, self.steps + 1, self.steps)[self.rank :: self.world_size]  # (streams, steps + 1)

    def take(self, plan: Tensor, i: int) -> tuple[Tensor, Tensor]:
        stretch = plan[:, i * self.seq_len : (i + 1) * self.seq_len + 1]
        return stretch[:, :-1], stretch[:, 1:]


class Evaluation(Loader):
    """A text as parallel streams in which every token but the first is predicted once, and nothing twice.

    Every stream but the first begins ``context`` tokens early, to read before it predicts. So a prediction has that
    many tokens before it at least, and all before it where they are fewer. Batches are as ``StreamLoader``'s; what is
    not to be predicted is -100 in y.

    Args:
        tokens: int64 (N,), N of 2 or more.
        streams: parallel ones, at most; a short text has fewer. Under several processes each reads all, as a
            stream's state cannot be handed on.
        seq_len: steps a stretch.
        context: tokens that a stream reads before its first prediction.
    """

    def __init__(self, tokens: Tensor, streams: int, seq_len: int, context: int):
        super().__init__()
        self.keeps_place = False
        self.seq_len = seq_len
        predicted = len(tokens) - 1
        context = min(context, max(0, predicted))  # more than all there is to read is of no use
        streams = max(1, min(streams, predicted // (2 * context + 1)))  # reading early pays for long ones
        share = -(-max(predicted - context, 1) // streams)  # the first stream predicts `context` more
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
