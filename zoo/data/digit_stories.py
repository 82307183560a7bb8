"""Made stories of five MNIST digits, whose sentences need the picture, the whole sequence and the sentence before.

The text of a page is "she sees three of nine , says she .": the first digit is that of the page's picture, the second
the largest of all five pictures, and "she" and "he" take turns. Who begins is drawn at random and is in no picture.
"""

from pathlib import Path

import torch
from torch import Tensor

from zoo.arguments import Positive, Seed
from zoo.data import sources
from zoo.data.glances import features_of
from zoo.data.stories import Books, StoryData
from zoo.data.story_words import StoryReader

DIGITS = "zero one two three four five six seven eight nine".split()
WHO = ("she", "he")
FRAME = "sees of , says .".split()
WORDS = " ".join([*DIGITS, *WHO, *FRAME])
PLACES = {"picture": 2, "sequence": 4, "before": 0}  # the place in a sentence of the word that needs it
AGAIN = 7  # the place where who speaks is said again, for the sentence before to be short to remember


class DigitStories(StoryData):
    """Stories of digits: training and validation with MNIST's training images, the test with its test images.

    The features of the pictures are those of the shipped ``lenet5_mnist``, which was trained on the training images.

    Args:
        train_size, val_size, test_size: numbers of stories; each part has a fixed seed, so all runs use the same. The
            validation's digits are the last 5,000 training images, which no training story has.
        name, num_classes, in_features, pages, batch_size, eval_batch_size, seed: see ``StoryData``.
        root: the folder of the data; None means $ZOO_DATA, the clone's ``data/`` or the user's cache.
    """

    def __init__(
        self,
        num_classes: int,
        in_features: int,
        train_size: Positive = 6_000,
        val_size: Positive = 500,
        test_size: Positive = 2_000,
        pages: Positive = 5,
        batch_size: Positive = 32,
        eval_batch_size: Positive = 250,
        seed: Seed = 0,
        root: str | None = None,
        name: str = "digit_stories",
    ):
        reader = StoryReader(WORDS, "lenet5")
        super().__init__(name, reader, num_classes, in_features, pages, batch_size, eval_batch_size, seed)
        self.sizes = {"train": train_size, "val": val_size, "test": test_size}
        self.val_size, self.root = val_size, Path(root).expanduser() if root else None

    def prepare_data(self) -> None:
        """Fetch and verify MNIST, once for all processes."""
        if not self.splits:
            sources.load("mnist", self.root)

    def read(self) -> dict[str, Books]:
        """Draw the stories and compute the features of their pictures."""
        mnist = sources.load("mnist", self.root)
        held = min(5_000, len(mnist["train_labels"]) // 10)
        images = {part: mnist[f"{'test' if part == 'test' else 'train'}_images"] for part in self.sizes}
        labels = {part: mnist[f"{'test' if part == 'test' else 'train'}_labels"] for part in self.sizes}
        cuts = {"train": slice(0, -held), "val": slice(-held, None), "test": slice(None)}
        return {
            part: self.books(images[part][cuts[part]], labels[part][cuts[part]], n, seed)
            for seed, (part, n) in enumerate(self.sizes.items())
        }

    def books(self, images: Tensor, labels: Tensor, n: int, seed: int) -> Books:
        """n stories of digits that are drawn from these images."""
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randint(len(labels), (n, self.pages), generator=generator)
        first = torch.randint(2, (n, 1), generator=generator)
        sentences = tokens(labels[drawn], first, self.reader)  # (n, N, 9)
        features = features_of("lenet5", images[drawn.unique()])
        place = torch.zeros(len(labels), dtype=torch.int64)
        place[drawn.unique()] = torch.arange(len(features))
        return Books(features[place[drawn].flatten()], sentences.flatten(0, 1).tolist(), [self.pages] * n)


def tokens(digits: Tensor, first: Tensor, reader: StoryReader) -> Tensor:
    """The sentences of stories: digits (n, N) and who begins (n, 1), 0 or 1, to tokens (n, N, 9)."""
    names, who = torch.tensor(reader.encode(DIGITS)), torch.tensor(reader.encode(WHO))
    frame = torch.tensor(reader.encode("she sees one of one , says she .".split()))
    sentences = frame.repeat(*digits.shape, 1)
    turn = (first + torch.arange(digits.shape[1])) % 2
    sentences[..., PLACES["before"]] = sentences[..., AGAIN] = who[turn]
    sentences[..., PLACES["picture"]] = names[digits]
    sentences[..., PLACES["sequence"]] = names[digits.max(1, keepdim=True).values.expand_as(digits)]
    return sentences
