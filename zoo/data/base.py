"""The base of all data in memory: shares for several processes, shortened epochs, and exact resuming."""

import copy
from typing import Any

from lightning import LightningDataModule
from torch import Tensor

from zoo.data.loader import BatchLoader, Loader
from zoo.errors import ZooError


class MemoryData(LightningDataModule):
    """Data whose training batches come from a ``Loader``; a subclass creates it and passes it to ``training``."""

    def __init__(self) -> None:
        super().__init__()
        self._train_loader: Loader | None = None
        self._position: dict[str, int] | None = None
        self.splits: dict[str, Any] = {}

    def first(self, n: int) -> tuple["MemoryData", int]:
        """A copy of the data with only the first n examples of every split, and the number of its test examples, which
        is below n if the test split is smaller. Call it after ``setup``.
        """
        few = copy.copy(self)
        few.splits = {part: tuple(tensor[:n] for tensor in tensors) for part, tensors in self.splits.items()}
        return few, len(few.splits["test"][0])

    def contents(self) -> dict[str, str]:
        """Digests of the user's own files by name, so that a resumed run notices changes. Call it after ``setup``.

        It is empty for data that are verified against a published digest.
        """
        return {}

    def smallest_batch(self, world_size: int) -> int | None:
        """The number of examples per process in a full training batch, after ``setup``; None if not known.

        A last batch may be smaller, but never has a single example per process unless the full ones have; see
        ``BatchLoader``.
        """
        return None

    def processes(self) -> tuple[int, int]:
        """The rank of this process and the number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def check_batch_size(self, batch_size: int) -> None:
        """Raise a ``ZooError`` unless a batch can be divided equally among the processes."""
        _, world_size = self.processes()
        if batch_size % world_size:
            raise ZooError(f"data.batch_size={batch_size} is not valid: give a multiple of the {world_size} processes")

    def training(self, loader: Loader) -> Loader:
        """Set up the loader of the training batches: a resumed run's position, and the trainer's limit of batches."""
        if self.trainer:
            loader.repeat = bool(self.trainer.overfit_batches)  # type: ignore[attr-defined]
            # Lightning stops at its limit too, but the loader ends its own epoch only if it knows the limit
            limit, batches = self.trainer.limit_train_batches, len(loader)
            loader.limit = int(limit * batches) if isinstance(limit, float) else limit
        if self._position is not None:
            loader.load_state_dict(self._position)
            self._position = None
        self._train_loader = loader
        return loader

    def state_dict(self) -> dict[str, Any]:
        """The position in the order of training examples; Lightning saves a loader's own state only within an epoch."""
        return self._train_loader.state_dict() if self._train_loader else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the position that ``state_dict`` returned, when the training loader is created."""
        self._position = state_dict or None


class Examples(MemoryData):
    """Data whose splits are pairs of tensors, inputs and targets, which a model gets unchanged.

    A subclass fills ``splits`` in ``setup`` and sets the attributes below.
    """

    batch_size: int
    eval_batch_size: int
    seed: int

    def train_dataloader(self) -> Loader:
        """The training examples in a new order every epoch; a resumed run continues where it stopped."""
        self.check_batch_size(self.batch_size)
        return self.training(BatchLoader(self.splits["train"], self.batch_size, True, self.seed, *self.processes()))

    def smallest_batch(self, world_size: int) -> int:
        """The number of examples per process in a full training batch; see ``MemoryData``."""
        return min(self.batch_size, len(self.splits["train"][0])) // world_size

    def val_dataloader(self) -> Loader | list[Loader]:
        """The validation examples; an empty list if there are none."""
        return self.evaluation("val") if len(self.splits["val"][0]) else []

    def test_dataloader(self) -> Loader:
        """The test examples."""
        return self.evaluation("test")

    def evaluation(self, part: str) -> Loader:
        rank, world_size = self.processes()
        return BatchLoader(self.splits[part], self.eval_batch_size, rank=rank, world_size=world_size)

    def sample(self, n: int, part: str = "train") -> tuple[Tensor, Tensor]:
        """The first n examples of a split, and their targets."""
        x, y = self.splits[part]
        return x[:n], y[:n]
