"""Problems of any length that show what a recurrent net remembers; their examples are drawn, from seeds."""

from typing import Any, Literal

import torch
from torch import Tensor

from zoo.arguments import Positive, Seed
from zoo.data.base import Examples
from zoo.data.decoded import total_memory
from zoo.errors import ZooError

SYMBOLS = 8  # of the copy problem; then the blank and the sign to begin
LENGTH = 10  # symbols to copy


def adding(n: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two numbers a step, a value in [0, 1] and a mark; what the two marked values add up to.

    Hochreiter & Schmidhuber 1997, experiment 4, with one mark in each half (Le et al. 2015). To say 1 always has a mean
    squared error of 1/6.

    Returns:
        Sequences float32 (n, steps, 2) and sums float32 (n, 1).
    """
    values, marks = torch.rand(n, steps, generator=generator), torch.zeros(n, steps)
    half = steps // 2
    for low, high in ((0, half), (half, steps)):
        marks[torch.arange(n), torch.randint(low, high, (n,), generator=generator)] = 1
    return torch.stack([values, marks], 2), (values * marks).sum(1, keepdim=True)


def copying(n: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ten symbols, ``steps`` blanks, a sign; then the ten are to be said again, in order (Arjovsky et al. 2016, 4.1).

    Returns:
        Tokens int64 (n, steps + 20), and what to say at each step, -100 where nothing is asked.
    """
    blank, begin = SYMBOLS, SYMBOLS + 1
    symbols = torch.randint(SYMBOLS, (n, LENGTH), generator=generator)
    x = torch.full((n, steps + 2 * LENGTH), blank)
    x[:, :LENGTH], x[:, -LENGTH - 1] = symbols, begin
    y = torch.full_like(x, -100)
    y[:, -LENGTH:] = symbols
    return x, y


def parity(n: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Whether the number of ones among the bits is odd: bits int64 (n, steps), classes int64 (n,)."""
    x = torch.randint(2, (n, steps), generator=generator)
    return x, x.sum(1) % 2


# the problem; the task it is for; tokens, or numbers a step; numbers to give; how a model is read
PROBLEMS: dict[str, tuple[Any, str, int | None, int | None, int, str]] = {
    "adding": (adding, "regress", None, 2, 1, "last"),
    "copy": (copying, "language", SYMBOLS + 2, None, SYMBOLS, "each"),
    "parity": (parity, "classify", 2, None, 2, "last"),
}


LONGEST = 100_000  # steps of an example


class Problem:
    """A model's ``preprocess``: its inputs are the problem's, and nothing is done to them."""

    def __init__(self, name: str, steps: int):
        if name not in PROBLEMS or not 1 <= steps <= LONGEST:
            raise ZooError(f"{name} of {steps} steps is not valid: {', '.join(PROBLEMS)}; 1 to {LONGEST:,} steps")
        self.name, self.steps = name, steps

    def random_input(self, n: int) -> Tensor:
        """A batch of n that a model can be tried with, the same for the same n."""
        return PROBLEMS[self.name][0](n, self.steps, torch.Generator().manual_seed(n))[0]


class SyntheticData(Examples):
    """A synthetic problem's examples.

    Args:
        name: "adding", "copy" or "parity".
        steps: the length T, of 2 or more; of the copy problem the blanks between.
        vocab_size, in_features, num_classes, read: what the problem's inputs and answers are; models are sized by them.
        train_size, val_size, test_size: examples; the same for every run, of three seeds of their own.
        batch_size, eval_batch_size: examples a batch.
        seed: of the order of the batches.
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
        needed = 32 * (train_size + val_size + test_size) * (steps + 2 * LENGTH)  # inputs, answers, and what makes them
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
        """What a card says of a model's inputs: they are the problem's own."""
        return {"preprocess": {"_target_": "zoo.data.synthetic.Problem", "name": self.name, "steps": self.steps}}
