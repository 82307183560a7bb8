"""Batches gathered by index from tensors in memory."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor


class BatchLoader:
    """Iterates over tensors of examples in batches; what a ``DataLoader`` would give, at a fraction of its cost.

    The order of an epoch depends on (seed, epoch) alone, so a run that stops after any batch can go on with the next:
    ``epoch`` and ``batch`` say where it is. Under several processes each takes its share of every batch, so that the
    global batch and its order are those of one process.

    Args:
        tensors: of the same first dimension, the example; a batch is a tuple of as many.
        batch_size: examples a (global) batch; the last one of an epoch may be smaller.
        shuffle: a new order each epoch, or always the order of the tensors.
        seed: of the order.
        rank, world_size: this process among all.
        limit: batches an epoch where it is to end early; None takes all.
        repeat: every epoch in the order of the first, so that a few batches can be learned by heart.

    Attributes:
        before_batch: called before every batch but an epoch's first, when all is done for the batch before; a callback
            that wants to stop the training can raise there.
    """

    def __init__(
        self,
        tensors: tuple[Tensor, ...],
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        limit: int | None = None,
        repeat: bool = False,
    ):
        self.tensors = tensors
        self.batch_size = batch_size
        self.shuffle, self.seed = shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.limit, self.repeat = limit, repeat
        self.before_batch: Callable[[], None] | None = None
        self.epoch = 0
        self.batch = 0  # batches of this epoch that were handed out
        self.total = len(tensors[0])
        if shuffle:  # equal shares, so that averaging over processes is averaging over examples
            self.total -= (self.total % batch_size) % world_size

    def __len__(self) -> int:
        return -(-self.total // self.batch_size)

    def order(self) -> Tensor:
        """The indices of this epoch's examples, shape (total,)."""
        if not self.shuffle:
            return torch.arange(self.total)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + (0 if self.repeat else self.epoch))
        return torch.randperm(len(self.tensors[0]), generator=generator)[: self.total]

    def state_dict(self) -> dict[str, int]:
        """Where it is: the next batch to hand out."""
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where another loader was."""
        self.epoch, self.batch = state["epoch"], state["batch"]

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        order = self.order().to(self.tensors[0].device)
        n = len(self) if self.limit is None else min(len(self), self.limit)
        for i in range(self.batch, n):
            if i and self.before_batch is not None:
                self.before_batch()
            index = order[i * self.batch_size : (i + 1) * self.batch_size]
            if self.world_size > 1:
                # an example may come twice at the very end of an evaluation, so that no process gets none
                index = index[self.rank :: self.world_size] if len(index) >= self.world_size else index
            # before handing it out: nobody asks for the batch after the last
            self.epoch, self.batch = (self.epoch + 1, 0) if i + 1 == n else (self.epoch, i + 1)
            yield tuple(tensor[index] for tensor in self.tensors)
