"""Synthetic problems of any sequence length that test the memory of recurrent networks, drawn from fixed seeds."""

from typing import Any, Literal

import torch
from torch import Tensor

from zoo.arguments import Positive, Seed
from zoo.data.base import Examples
from zoo.data.decoded import total_memory
from zoo.errors import ZooError

SYMBOLS = 8  # different symbols in the copy problem; the next two tokens are the blank and the sign to begin
LENGTH = 10  # number of symbols to copy


def adding(n: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The adding problem: each step has a value in [0, 1] and a mark; the target is the sum of the two marked values.

    Hochreiter & Schmidhuber 1997, experiment 4, with one mark in each half (Le et al. 2015). The constant prediction 1
    has a mean squared error of 1/6.

    Returns:
        Sequences float32 (n, steps, 2) and sums float32 (n, 1).
    """
    values, marks = torch.rand(n, steps, generator=generator), torch.zeros(n, steps)
    half = steps // 2
    for low, high in ((0, half), (half, steps)):
        marks[torch.arange(n), torch.randint(low, high, (n,), generator=generator)] = 1
    return torch.stack([values, marks], 2), (values * marks).sum(1, keepdim=True)


def copying(n: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The copy problem: ten symbols, then blanks and a sign to begin, after which the ten symbols are to be repeated.

    Arjovsky et al. 2016, section 4.1.

    Returns:
        Tokens int64 (n, steps + 20), and the target of each step, of the same shape, with -100 where there is none.
    """
    blank, begin = SYMBOLS, SYMBOLS + 1
    symbols = torch.randint(SYMBOLS, (n, LENGTH), generator=generator)
    x = torch.full((n, steps + 2 * LENGTH), blank)
    x[:, :LENGTH], x[:, -LENGTH - 1] = symbols, begin
    y = torch.full_like(x, -100)
    y[:, -LENGTH:] = symbols
    return x, y


def parity(n: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The parity problem: whether the number of ones among the bits is odd.

    Returns:
        Bits int64 (n, steps) and classes int64 (n,), 1 for odd.
    """
    x = torch.randint(2, (n, steps), generator=generator)
    return x, x.sum(1) % 2


# The function; the task; the vocabulary size, or None; the numbers per step, or None; the number of outputs; whether
# the model's output is read at "each" step or the "last"
PROBLEMS: dict[str, tuple[Any, str, int | None, int | None, int, str]] = {
    "adding": (adding, "regress", None, 2, 1, "last"),
    "copy": (copying, "language", SYMBOLS + 2, None, SYMBOLS, "each"),
    "parity": (parity, "classify", 2, None, 2, "last"),
}


LONGEST = 100_000  # most steps of an example


class Problem:
    """A model's ``preprocess`` for a synthetic problem, whose inputs are used unchanged."""

    def __init__(self, name: str, steps: int):
        if name not in PROBLEMS or not 1 <= steps <= LONGEST:
            raise ZooError(f"{name} of {steps} steps is not valid: {', '.join(PROBLEMS)}; 1 to {LONGEST:,} steps")
        self.name, self.steps = name, steps

    def random_input(self, n: int) -> Tensor:
        """A batch of n inputs to try a model with; equal n give equal batches."""
        return PROBLEMS[self.name][0](n, self.steps, torch.Generator().manual_seed(n))[0]


class SyntheticData(Examples):
    """The examples of a synthetic problem.

    Args:
        name: "adding", "copy" or "parity".
        steps: the sequence length T, 2 or more; for the copy problem the delay between symbols and answer.
        vocab_size, in_features, num_classes, read: the kind of the problem's inputs and outputs, from which models take
            their sizes; each problem has fixed values.
        train_size, val_size, test_size: numbers of examples; each split has a fixed seed, so all runs use the same.
        batch_size, eval_batch_size: examples per batch in training and evaluation.
        seed: seed for the order of the training examples.
    """

    def __init__(
        self,
        name: Literal["adding", "copy", "parity"],
        steps: int,
        vocab_size: int | None,
        in_features: int | None,
        num_classes: int,
        read: Literal["each", "last"],
        train_size: int = 50_000,
        val_size: int = 2_000,
        test_size: int = 5_000,
        batch_size: int = 128,
        eval_batch_size: Positive = 500,
        seed: Seed = 0,
        root: None = None,
    ):
        super().__init__()
        if name not in PROBLEMS:
            raise ZooError(f"data.name={name} is unknown; valid: {', '.join(PROBLEMS)}")
        for key, value in (("train_size", train_size), ("test_size", test_size), ("batch_size", batch_size)):
            if value < 1:
                raise ZooError(f"data.{key}={value} is not valid: give a positive number")
        if steps < 2 or val_size < 0:
            raise ZooError(f"data.steps={steps}, data.val_size={val_size}: give 2 or more, and 0 or more")
        needed = 32 * (train_size + val_size + test_size) * (steps + 2 * LENGTH)  # inputs, targets, temporary tensors
        if steps > LONGEST or (total_memory() and needed > total_memory() / 2):
            raise ZooError(
                f"data.steps={steps} with data.train_size={train_size}, val_size={val_size}, test_size={test_size} is "
                f"not valid: at most {LONGEST:,} steps, and half of this machine's memory ({needed / 1e9:,.1f} GB)"
            )
        if (vocab_size, in_features, num_classes, read) != PROBLEMS[name][2:]:
            raise ZooError(f"data={name}: leave vocab_size, in_features, num_classes and read as they are")
        self.name: str = name  # type: ignore[assignment]  Lightning's own is str | None
        self.steps = steps
        self.vocab_size, self.in_features = vocab_size, in_features
        self.num_classes, self.read = num_classes, read
        self.sizes = {"train": train_size, "val": val_size, "test": test_size}
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.seed = seed
        self.splits: dict[str, tuple[Tensor, Tensor]] = {}

    def setup(self, stage: str | None = None) -> None:
        """Draw the examples."""
        if not self.splits:
            draw = PROBLEMS[self.name][0]
            for seed, (split, n) in enumerate(self.sizes.items()):
                self.splits[split] = draw(n, self.steps, torch.Generator().manual_seed(seed))

    def summary(self) -> str:
        """One line: the problem and the sizes of the splits."""
        n, v, t = (f"{size:,}" for size in self.sizes.values())
        return f"{self.name}, T = {self.steps}: {n} training, {v} validation, {t} test examples"

    def card(self) -> dict[str, Any]:
        """The card's entry for the model's preprocessing: the inputs are those of this problem."""
        return {"preprocess": {"_target_": "zoo.data.synthetic.Problem", "name": self.name, "steps": self.steps}}
