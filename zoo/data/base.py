"""What data in memory have in common: their place among processes, shortened epochs, and an exact resume."""

import copy
from typing import Any

from lightning import LightningDataModule
from torch import Tensor

from zoo.data.loader import BatchLoader, Loader
from zoo.errors import ZooError


class MemoryData(LightningDataModule):
    """Data whose training batches come from a ``Loader``; a subclass makes it, and ``training`` sets it up."""

    def __init__(self) -> None:
        super().__init__()
        self._train_loader: Loader | None = None
        self._position: dict[str, int] | None = None
        self.splits: dict[str, Any] = {}

    def first(self, n: int) -> tuple["MemoryData", int]:
        """The same data with the first n examples of every split alone, and how many of the test split they are, which
        may have fewer; to be called after ``setup``.
        """
        few = copy.copy(self)
        few.splits = {part: tuple(tensor[:n] for tensor in tensors) for part, tensors in self.splits.items()}
        return few, len(few.splits["test"][0])

    def contents(self) -> dict[str, str]:
        """What the contents of the user's own files are known by, for a run that goes on with them later; after
        ``setup``. Nothing for data that are held against a published digest.
        """
        return {}

    def smallest_batch(self, world_size: int) -> int | None:
        """How many examples a process gets in the smallest batch of training, after ``setup``; None: nothing minds."""
        return None

    def processes(self) -> tuple[int, int]:
        """The number of this process, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def check_batch_size(self, batch_size: int) -> None:
        """Raise a ``ZooError`` unless a batch can be parted among the processes."""
        _, world_size = self.processes()
        if batch_size % world_size:
            raise ZooError(f"data.batch_size={batch_size} is not valid: give a multiple of the {world_size} processes")

    def training(self, loader: Loader) -> Loader:
        """The loader of the training batches, where a resumed run stopped, and as short as the trainer has it."""
        if self.trainer:
            loader.repeat = bool(self.trainer.overfit_batches)  # type: ignore[attr-defined]
            # Lightning stops there too, but only a loader that knows of it ends its epoch
            limit, batches = self.trainer.limit_train_batches, len(loader)
            loader.limit = int(limit * batches) if isinstance(limit, float) else limit
        if self._position is not None:
            loader.load_state_dict(self._position)
            self._position = None
        self._train_loader = loader
        return loader

    def state_dict(self) -> dict[str, Any]:
        """Where in the order of the examples the training is; Lightning keeps a loader's own state mid-epoch only."""
        return self._train_loader.state_dict() if self._train_loader else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self._position = state_dict or None


class Examples(MemoryData):
    """Splits that are pairs of tensors, inputs and targets, which go to a model as they are; a subclass has ``splits``
    after ``setup``, and the numbers here.
    """

    batch_size: int
    eval_batch_size: int
    seed: int

    def train_dataloader(self) -> Loader:
        """The training examples in a new order each epoch; a resumed run goes on where it stopped."""
        self.check_batch_size(self.batch_size)
        return self.training(BatchLoader(self.splits["train"], self.batch_size, True, self.seed, *self.processes()))

    def smallest_batch(self, world_size: int) -> int:
        """How many examples a process gets in the smallest batch of training."""
        return min(self.batch_size, len(self.splits["train"][0])) // world_size

    def val_dataloader(self) -> Loader | list[Loader]:
        """The validation examples; nothing when ``val_size`` is 0."""
        return self.evaluation("val") if len(self.splits["val"][0]) else []

    def test_dataloader(self) -> Loader:
        """The test examples."""
        return self.evaluation("test")

    def evaluation(self, part: str) -> Loader:
        rank, world_size = self.processes()
        return BatchLoader(self.splits[part], self.eval_batch_size, rank=rank, world_size=world_size)

    def sample(self, n: int, part: str = "train") -> tuple[Tensor, Tensor]:
        """The first n examples of a part, and their targets."""
        x, y = self.splits[part]
        return x[:n], y[:n]
