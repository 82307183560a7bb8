"""Stories as sequences of pages with a picture and a text: whole tensors, from which windows of pages are taken."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.arguments import Positive, Seed
from zoo.contracts import Story
from zoo.data.base import MemoryData
from zoo.data.glances import WIDTHS, Kind
from zoo.data.loader import BatchLoader, Loader
from zoo.data.story_words import STOP, StoryReader
from zoo.errors import ZooError


class Books(NamedTuple):
    """The books of one part of the data, all their pages one after the other.

    Attributes:
        pictures: features, float32 (P, F).
        texts: the tokens of each page.
        lengths: the number of pages of each book.
    """

    pictures: Tensor
    texts: list[list[int]]
    lengths: list[int]


class StoryBatch(NamedTuple):
    """A batch of stories of N pages.

    Attributes:
        story: the model's input.
        targets: the next word after each word, int64 (B, L), and -100 where there is none to predict.
        texts: the words of each page, int64 (B, N, T), filled up with ``STOP``.
        pages: the numbers of the pages, int64 (B, N), the same for a page that is in several stories.
        counted: whether a page counts, bool (B, N); in evaluation each page counts once.
        book: the number of each story's book, int64 (B,).
    """

    story: Story
    targets: Tensor
    texts: Tensor
    pages: Tensor
    counted: Tensor
    book: Tensor


class StoryData(MemoryData):
    """Stories; a subclass defines ``read``. A story is a window of consecutive pages of a book.

    Training takes every window, validation and test take windows side by side; the last one of a book begins early
    enough to be full, and pages that were in the window before it do not count again. Books with fewer pages than a
    window are left out.

    Args:
        name: the name of the data.
        reader: from words to tokens.
        num_classes, in_features: the sizes of the vocabulary and of a picture's features, which are checked.
        pages: pages of a story.
        batch_size, eval_batch_size: stories per batch in training and evaluation.
        seed: seed for the order of the training stories.
    """

    def __init__(
        self,
        name: str,
        reader: StoryReader,
        num_classes: int,
        in_features: int,
        pages: Positive = 5,
        batch_size: Positive = 32,
        eval_batch_size: Positive = 64,
        seed: Seed = 0,
    ):
        super().__init__()
        if (len(reader.known), WIDTHS[reader.features]) != (num_classes, in_features):
            raise ZooError(
                f"data.num_classes={num_classes} and data.in_features={in_features} are not those of data={name}, "
                f"{len(reader.known)} and {WIDTHS[reader.features]}; leave them as they are"
            )
        self.name: str = name  # type: ignore[assignment]  Lightning's own is str | None
        self.reader, self.num_classes, self.in_features = reader, num_classes, in_features
        self.features: Kind = reader.features
        self.pages, self.batch_size, self.eval_batch_size, self.seed = pages, batch_size, eval_batch_size, seed
        self.pictures = self.words = self.lengths = torch.empty(0)

    def read(self) -> dict[str, Books]:
        """The books of "train", "val" and "test"."""
        raise NotImplementedError(f"{type(self).__name__} has no read(); see zoo.data.stories.StoryData")

    def setup(self, stage: str | None = None) -> None:
        """Put the pages of all parts into tensors, and choose the windows."""
        if self.splits:
            return
        parts = self.read()
        texts = [text for part in parts.values() for text in part.texts]
        self.pictures = torch.cat([part.pictures for part in parts.values()])  # (P, F)
        self.lengths = torch.tensor([len(text) for text in texts])  # (P,)
        self.words = torch.full((len(texts), int(self.lengths.max()) + 2), STOP)  # (P, T + 2): STOP, words, STOP …
        for row, text in zip(self.words, texts, strict=True):
            row[1 : len(text) + 1] = torch.tensor(text, dtype=torch.int64)
        first, book = 0, 0
        for part, books in parts.items():
            self.splits[part] = windows(books.lengths, self.pages, first, book, overlap=part == "train")
            first, book = first + len(books.texts), book + len(books.lengths)
        for part in ("train", "test"):
            if not len(self.splits[part][0]):
                raise ZooError(
                    f"data={self.name}: no book of its {part} part has data.pages={self.pages} pages; give fewer"
                )

    # --- batches ----------------------------------------------------------------------------------------------------

    def batch(self, pages: Tensor, counted: Tensor, book: Tensor) -> StoryBatch:
        """The batch of windows: the numbers of their pages (B, N), whether these count (B, N), and the books (B,)."""
        words, steps = self.words[pages], self.lengths[pages] + 1  # (B, N, T + 2); with the end of each sentence
        real = torch.arange(words.shape[2] - 1) < steps[..., None]  # (B, N, T + 1)
        longest = int(steps.sum(1).max())  # on the CPU, before anything is on the device
        order = (~real).flatten(1).to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]  # (B, L), real words first
        real, page = real.flatten(1).gather(1, order), order.div(words.shape[2] - 1, rounding_mode="floor")
        page = page.where(real, pages.shape[1] - 1)
        now, following = (part.flatten(1).gather(1, order) for part in (words[..., :-1], words[..., 1:]))
        targets = following.masked_fill(~(real & counted.gather(1, page)), -100)
        texts = words[..., 1 : int(steps.max())]
        story = Story(self.pictures[pages], now.where(real, STOP), page)
        return StoryBatch(story, targets, texts, pages, counted, book)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> StoryBatch:
        return self.batch(*batch)

    def loader(self, part: str, batch_size: int, shuffle: bool = False) -> BatchLoader:
        return BatchLoader(self.splits[part], batch_size, shuffle, self.seed, *self.processes())

    def train_dataloader(self) -> Loader:
        """The training stories in a new order every epoch; a resumed run continues where it stopped."""
        self.check_batch_size(self.batch_size)
        return self.training(self.loader("train", self.batch_size, True))

    def smallest_batch(self, world_size: int) -> int:
        """The number of stories per process in a full training batch; see ``MemoryData``."""
        return min(self.batch_size, len(self.splits["train"][0])) // world_size

    def val_dataloader(self) -> Loader | list[Loader]:
        """The validation stories; an empty list if there are none."""
        return self.loader("val", self.eval_batch_size) if len(self.splits["val"][0]) else []

    def test_dataloader(self) -> Loader:
        """The test stories."""
        return self.loader("test", self.eval_batch_size)

    # --- what a run reports about its data --------------------------------------------------------------------------

    def sample(self, n: int, part: str = "train") -> tuple[Story, Tensor]:
        """The first n stories of a part, and the next word after each of their words."""
        batch = self.batch(*(tensor[:n] for tensor in self.splits[part]))
        return batch.story, batch.targets

    def told(self, n: int, part: str) -> StoryBatch:
        """The first n stories of a part as a batch, for pictures and texts of a run."""
        return self.batch(*(tensor[:n] for tensor in self.splits[part]))

    def summary(self) -> str:
        """One line: the sizes of the parts."""
        n, v, t = (f"{len(self.splits[part][0]):,}" for part in ("train", "val", "test"))
        return f"{self.name}: {n} training, {v} validation, {t} test stories of {self.pages} pages"

    def card(self) -> dict[str, Any]:
        """The card's entry about a model's inputs: the vocabulary, and the network that sees the pictures."""
        return {"preprocess": self.reader.config()}


def windows(lengths: Sequence[int], pages: int, first: int, book: int, overlap: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The windows of books whose pages are numbered from ``first``, and which are numbered from ``book``.

    Returns:
        The numbers of the pages (W, N), whether they count (W, N), and the number of the book (W,).
    """
    found: list[tuple[int, int, int]] = []  # first page; pages that do not count; book
    for length in lengths:
        if length >= pages:
            starts = range(length - pages + 1) if overlap else range(0, length - pages + 1, pages)
            found += [(first + start, 0, book) for start in starts]
            if not overlap and (rest := length % pages):
                found.append((first + length - pages, pages - rest, book))
        first, book = first + length, book + 1
    if not found:
        return torch.empty(0, pages, dtype=torch.int64), torch.empty(0, pages, dtype=torch.bool), torch.empty(0).long()
    start, passed, books = torch.tensor(found).T
    step = torch.arange(pages)
    return start[:, None] + step, step >= passed[:, None], books
