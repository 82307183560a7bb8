"""The user's own examples as data for a run: tensors, or any torch ``Dataset``."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo.arguments import NonNegative, Positive, Seed
from zoo.data.base import Examples
from zoo.errors import ZooError

LARGEST = 10_000_000  # most numbers in one example


class AsIs:
    """A model's ``preprocess`` for examples that are used unchanged.

    Args:
        shape: the shape of one example.
        tokens: the vocabulary size, if examples consist of tokens; None if they consist of real numbers.
    """

    def __init__(self, shape: Sequence[int], tokens: int | None = None):
        if not all(isinstance(n, int) and n > 0 for n in shape) or math.prod(shape) > LARGEST or (tokens or 1) < 1:
            raise ZooError(f"shape={list(shape)} and tokens={tokens} are not valid: whole numbers of 1 or more")
        self.shape, self.tokens = list(shape), tokens

    def random_input(self, n: int) -> Tensor:
        """A random batch of n examples to try a model with; equal n give equal batches."""
        generator = torch.Generator().manual_seed(n)
        if self.tokens:
            return torch.randint(self.tokens, (n, *self.shape), generator=generator)
        return torch.randn(n, *self.shape, generator=generator)


class TensorData(Examples):
    """Examples and targets that fit in memory; a subclass defines ``examples`` and passes ``num_classes``.

    A batch consists of unchanged inputs and of labels, int64 (B,), or for ``task=regress`` of numbers.

    Args:
        name: the name of the data, which becomes part of the names of runs.
        num_classes: the number of classes, or of values to predict; it sets the size of a model's output.
        val_size: how much of "train" is held out for validation: a share below 1, or a number of examples; 0: none.
        batch_size, eval_batch_size: examples per batch in training and evaluation.
        seed: seed for the order of the training examples.
        split_seed: seed that selects the validation examples.
        root: a folder, for a subclass that reads files.

    Attributes:
        classes: the names of the classes, if a subclass defines them.
    """

    classes: Sequence[str] = ()

    def __init__(
        self,
        name: str,
        num_classes: Positive,
        val_size: NonNegative = 0.1,
        batch_size: Positive = 128,
        eval_batch_size: Positive = 1024,
        seed: Seed = 0,
        split_seed: Seed = 0,
        root: str | None = None,
    ):
        super().__init__()
        self.name: str = name  # type: ignore[assignment]  Lightning's own is str | None
        self.num_classes, self.val_size = num_classes, val_size
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.seed, self.split_seed, self.root = seed, split_seed, root

    def examples(self, part: str) -> tuple[Tensor, Tensor] | Dataset:
        """The examples (N, …) and targets (N,) or (N, K) of "train" or "test", or a ``Dataset`` of such pairs."""
        raise NotImplementedError(f"{type(self).__name__} has no examples(part); see zoo.data.tensors.TensorData")

    def setup(self, stage: str | None = None) -> None:
        """Get the examples once, and split the validation examples off those for training."""
        if self.splits:
            return
        x, y = pairs(self.examples("train"))
        held = int(self.val_size if self.val_size >= 1 else self.val_size * len(x))
        if held >= len(x):
            raise ZooError(f"data.val_size={self.val_size} leaves none of {len(x)} examples to train on; give fewer")
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(self.split_seed))
        train, val = order[held:], order[:held]
        self.splits = {"train": (x[train], y[train]), "val": (x[val], y[val]), "test": pairs(self.examples("test"))}

    def summary(self) -> str:
        """One line: the sizes of the splits."""
        n, v, t = (f"{len(self.splits[part][0]):,}" for part in ("train", "val", "test"))
        return f"{self.name}: {n} training, {v} validation, {t} test examples"

    def card(self) -> dict[str, Any]:
        """The card's entries for the model's preprocessing and the names of the classes."""
        x, y = self.splits["train"]
        tokens = None if x.is_floating_point() else int(x.max()) + 1
        preprocess = {"_target_": "zoo.data.tensors.AsIs", "shape": list(x.shape[1:]), "tokens": tokens}
        return {"preprocess": preprocess, "classes": list(self.classes) or numbered(y, self.num_classes)}


def numbered(y: Tensor, num_classes: int) -> list[str]:
    """Numbers as names for classes without names; empty if the targets are not classes."""
    return [] if y.is_floating_point() else [str(i) for i in range(num_classes)]


def pairs(examples: tuple[Tensor, Tensor] | Dataset) -> tuple[Tensor, Tensor]:
    """Examples and targets as two tensors, (N, …) and (N,) or (N, K)."""
    if isinstance(examples, Dataset):
        found: Any = examples
        rows = [found[i] for i in range(len(found))]
        examples = (
            torch.stack([torch.as_tensor(x) for x, _ in rows]),
            torch.stack([torch.as_tensor(y) for _, y in rows]),
        )
    x, y = examples
    if not len(x) or len(x) != len(y):
        raise ZooError(f"{len(x)} examples and {len(y)} targets are not valid: give as many of both, and at least one")
    return x, y
