"""Loaders that make mini-batches from tensors in memory, and that can resume in the middle of an epoch."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from zoo.arguments import Seed


class Loader:
    """Iterates over the batches of an epoch, like a ``DataLoader`` at a fraction of its cost.

    The batches depend only on the seed and the epoch, so a run that was stopped after any batch can continue with the
    next one; ``epoch`` and ``batch`` say which one that is. With several processes each takes its share of every batch,
    so that the global batches and their order are the same as with one process.

    Args:
        seed: seed for the order.
        rank, world_size: number of this process, and number of all processes.

    Attributes:
        keeps_place: if an epoch was interrupted, continue where it stopped, as in training; otherwise start it again.
        limit: number of batches after which an epoch ends early; None takes all.
        repeat: repeat the first epoch, to overfit a few batches on purpose.
        before_batch: functions that are called before every batch except the first of an epoch, when the previous batch
            is completely processed; they may write a checkpoint, or raise an exception to stop training.
    """

    def __init__(self, seed: Seed = 0, rank: int = 0, world_size: int = 1):
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.keeps_place = True
        self.limit: int | None = None
        self.repeat = False
        self.before_batch: list[Callable[[], None]] = []
        self.epoch = 0
        self.batch = 0  # number of batches of this epoch that were already returned

    def __len__(self) -> int:
        """The number of batches per epoch, without ``limit``."""
        raise NotImplementedError

    def plan(self) -> Any:
        """Prepare what ``take`` needs for the batches of this epoch, such as the order of the examples."""
        raise NotImplementedError

    def take(self, plan: Any, i: int) -> tuple[Tensor, ...]:
        """Batch i of the epoch."""
        raise NotImplementedError

    def generator(self) -> torch.Generator:
        """A random number generator for this epoch."""
        return torch.Generator().manual_seed(self.seed * 1_000_003 + (0 if self.repeat else self.epoch))

    def state_dict(self) -> dict[str, int]:
        """The position of the next batch."""
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from the position of another loader."""
        self.epoch, self.batch = state["epoch"], state["batch"]

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        plan = self.plan()
        n = len(self) if self.limit is None else min(len(self), self.limit)
        for i in range(self.batch if self.keeps_place else 0, n):
            for call in self.before_batch if i else ():
                call()
            batch = self.take(plan, i)
            # before the yield, because code after the last yield of an epoch may never run
            self.epoch, self.batch = (self.epoch + 1, 0) if i + 1 == n else (self.epoch, i + 1)
            yield batch


class BatchLoader(Loader):
    """Batches of examples, gathered by index.

    Args:
        tensors: tensors whose first dimension is the example; a batch is a tuple with the same number of tensors.
        batch_size: examples per (global) batch; the last batch of an epoch may be smaller. With ``shuffle``, a last
            batch with only one example per process is joined to the previous batch, because batch norm cannot learn
            from a single example.
        shuffle: use a new random order in each epoch, instead of the order of the tensors.
        seed, rank, world_size: see ``Loader``.
    """

    def __init__(
        self,
        tensors: tuple[Tensor, ...],
        batch_size: int,
        shuffle: bool = False,
        seed: Seed = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        super().__init__(seed, rank, world_size)
        self.tensors, self.batch_size, self.shuffle = tensors, batch_size, shuffle
        self.keeps_place = shuffle
        self.total = len(tensors[0])
        if shuffle:  # equal shares, so that the mean over processes is the mean over examples
            self.total -= (self.total % batch_size) % world_size
        self.joined = shuffle and self.total > batch_size and self.total % batch_size == world_size

    def __len__(self) -> int:
        return -(-self.total // self.batch_size) - self.joined

    def order(self) -> Tensor:
        """The indices of the examples of this epoch, in their order, (total,)."""
        if not self.shuffle:
            return torch.arange(self.total)
        return torch.randperm(len(self.tensors[0]), generator=self.generator())[: self.total]

    def plan(self) -> Tensor:
        return self.order().to(self.tensors[0].device)

    def take(self, plan: Tensor, i: int) -> tuple[Tensor, ...]:
        end = self.total if i + 1 == len(self) else (i + 1) * self.batch_size
        index = plan[i * self.batch_size : end]
        if self.world_size > 1:
            # a last evaluation batch smaller than the number of processes goes to all of them, so that none is empty
            index = index[self.rank :: self.world_size] if len(index) >= self.world_size else index
        return tuple(tensor[index] for tensor in self.tensors)


class MixedLoader(Loader):
    """Batches that combine labelled with unlabelled examples.

    An epoch takes each unlabelled example once, and repeats the labelled ones as often as needed, each time in a new
    order. A batch has the tensors of the labelled examples, followed by those of the unlabelled ones. All batches have
    the same size: examples that do not fill a batch are left out, so that no batch has a single example.

    Args:
        labelled: tensors of the labelled examples, with equal first dimensions.
        unlabelled: tensors of the unlabelled examples, with equal first dimensions.
        batch_size: labelled examples per (global) batch.
        beside: unlabelled examples per (global) batch.
        seed, rank, world_size: see ``Loader``.
    """

    def __init__(
        self,
        labelled: tuple[Tensor, ...],
        unlabelled: tuple[Tensor, ...],
        batch_size: int,
        beside: int,
        seed: Seed = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        super().__init__(seed, rank, world_size)
        self.labelled, self.unlabelled = labelled, unlabelled
        self.batch_size, self.beside = batch_size, beside

    def __len__(self) -> int:
        return len(self.unlabelled[0]) // self.beside

    def plan(self) -> tuple[Tensor, Tensor]:
        generator, n = self.generator(), len(self.labelled[0])
        rounds = -(-len(self) * self.batch_size // n)
        labelled = torch.cat([torch.randperm(n, generator=generator) for _ in range(rounds)])
        return labelled, torch.randperm(len(self.unlabelled[0]), generator=generator)

    def take(self, plan: tuple[Tensor, Tensor], i: int) -> tuple[Tensor, ...]:
        found: list[Tensor] = []
        sides = ((self.labelled, self.batch_size), (self.unlabelled, self.beside))
        for order, (tensors, size) in zip(plan, sides, strict=True):
            index = order[i * size : (i + 1) * size][self.rank :: self.world_size].to(tensors[0].device)
            found += [tensor[index] for tensor in tensors]
        return tuple(found)


def batches_by_length(
    lengths: Tensor, batch_size: int, pool: int, generator: torch.Generator | None, total: int | None = None
) -> list[Tensor]:
    """The indices of the examples of each batch, such that a batch has examples of similar lengths.

    Args:
        lengths: by which to sort, (N,).
        batch_size: examples per batch.
        pool: batches whose examples, drawn at random, are sorted together; the batches are then shuffled.
        generator: for the random order; None sorts all examples.
        total: how many of the examples to take, the first ones of the order; None takes all.
    """
    if generator is None:
        return list(lengths.argsort(stable=True)[:total].split(batch_size))
    pools = torch.randperm(len(lengths), generator=generator)[:total].split(pool * batch_size)
    batches = [batch for drawn in pools for batch in drawn[lengths[drawn].argsort(stable=True)].split(batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
