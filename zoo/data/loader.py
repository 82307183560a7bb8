"""Batches of tensors in memory: examples gathered by index, and streams read a stretch at a time."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from zoo.arguments import Seed


class Loader:
    """Iterates over an epoch's batches; what a ``DataLoader`` would give, at a fraction of its cost.

    An epoch depends on (seed, epoch) alone, so a run that stops after any batch can go on with the next: ``epoch`` and
    ``batch`` say where it is. Under several processes each takes its share of every batch, so that the global batch
    and its order are those of one process.

    Args:
        seed: of the order.
        rank, world_size: this process among all.

    Attributes:
        keeps_place: an epoch that was broken off goes on where it stopped, as training's; else it begins anew.
        limit: batches an epoch where it is to end early; None takes all.
        repeat: every epoch is the first again, so that a few batches can be learned by heart.
        before_batch: what is called before every batch but an epoch's first, when all is done for the batch before: a
            place to write a checkpoint, or to raise where the training is to stop.
    """

    def __init__(self, seed: Seed = 0, rank: int = 0, world_size: int = 1):
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.keeps_place = True
        self.limit: int | None = None
        self.repeat = False
        self.before_batch: list[Callable[[], None]] = []
        self.epoch = 0
        self.batch = 0  # batches of this epoch that were handed out

    def __len__(self) -> int:
        """Batches an epoch."""
        raise NotImplementedError

    def plan(self) -> Any:
        """What ``take`` needs for this epoch's batches."""
        raise NotImplementedError

    def take(self, plan: Any, i: int) -> tuple[Tensor, ...]:
        """The epoch's batch i."""
        raise NotImplementedError

    def generator(self) -> torch.Generator:
        """Of this epoch's random choices."""
        return torch.Generator().manual_seed(self.seed * 1_000_003 + (0 if self.repeat else self.epoch))

    def state_dict(self) -> dict[str, int]:
        """Where it is: the next batch to hand out."""
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where another loader was."""
        self.epoch, self.batch = state["epoch"], state["batch"]

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        plan = self.plan()
        n = len(self) if self.limit is None else min(len(self), self.limit)
        for i in range(self.batch if self.keeps_place else 0, n):
            for call in self.before_batch if i else ():
                call()
            batch = self.take(plan, i)
            # before handing it out: nobody asks for the batch after the last
            self.epoch, self.batch = (self.epoch + 1, 0) if i + 1 == n else (self.epoch, i + 1)
            yield batch


class BatchLoader(Loader):
    """Batches of examples, gathered by index.

    Args:
        tensors: of the same first dimension, the example; a batch is a tuple of as many.
        batch_size: examples a (global) batch; the last one of an epoch may be smaller. With ``shuffle``, one that would
            leave a process a single example is joined to the batch before: batch normalisation learns nothing of one.
        shuffle: a new order each epoch, or always the order of the tensors.
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
        if shuffle:  # equal shares, so that averaging over processes is averaging over examples
            self.total -= (self.total % batch_size) % world_size
        self.joined = shuffle and self.total > batch_size and self.total % batch_size == world_size

    def __len__(self) -> int:
        return -(-self.total // self.batch_size) - self.joined

    def order(self) -> Tensor:
        """The indices of this epoch's examples, shape (total,)."""
        if not self.shuffle:
            return torch.arange(self.total)
        return torch.randperm(len(self.tensors[0]), generator=self.generator())[: self.total]

    def plan(self) -> Tensor:
        return self.order().to(self.tensors[0].device)

    def take(self, plan: Tensor, i: int) -> tuple[Tensor, ...]:
        end = self.total if i + 1 == len(self) else (i + 1) * self.batch_size
        index = plan[i * self.batch_size : end]
        if self.world_size > 1:
            # an example may come twice at the very end of an evaluation, so that no process gets none
            index = index[self.rank :: self.world_size] if len(index) >= self.world_size else index
        return tuple(tensor[index] for tensor in self.tensors)


class MixedLoader(Loader):
    """Batches of examples with labels, and beside each others without.

    An epoch goes once through those without; those with labels come around as often as it takes, each time in a new
    order. A batch is the tensors of the labelled ones, then those of the others. All batches are of the same size: what
    does not fill one is left out, so that none is of a single example.

    Args:
        labelled, unlabelled: tensors of the same first dimension each.
        batch_size, beside: examples of each a (global) batch.
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
