"""Books with a picture and a text on each page, as stories for ``task=story``."""

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from zoo.arguments import Positive, Range, Seed
from zoo.data import albums
from zoo.data.glances import Kind, read_features
from zoo.data.integrity import digest
from zoo.data.stories import Books, StoryData
from zoo.data.story_words import StoryReader, cut, pieces, vocabulary
from zoo.paths import EMBEDDED, data_root

Name = Literal["african_storybook", "potter", "vist", "small_stories", "album"]
Share = Annotated[float, Range(0, 0.5)]


class PictureStories(StoryData):
    """Books of a collection or of the user's own; see ``zoo.data.albums`` for the files.

    Args:
        name: "african_storybook", "potter", "vist", two embedded stories as "small_stories", or "album".
        features: the network that sees the pictures; see ``zoo.data.glances``.
        at_least: how often a word has to be in the training texts to be in the vocabulary.
        longest: most words of a page; longer texts are cut after a sentence.
        val_size, test_size: shares of the books for validation and test, if the collection does not say; see
            ``zoo.data.albums.split``.
        split_seed: the seed of these shares.
        root: a folder with albums, or with a folder of that name; None means $ZOO_DATA, the clone's ``data/`` or the
            user's cache.
        num_classes, in_features, pages, batch_size, eval_batch_size, seed: see ``StoryData``.

    Raises:
        ZooError: there are no stories in the folder, or a picture or the network's weights cannot be read.
    """

    def __init__(
        self,
        name: Name,
        num_classes: int,
        in_features: int,
        features: Kind = "efficientnet_lite0",
        at_least: Positive = 2,
        longest: Positive = 40,
        val_size: Share = 0.1,
        test_size: Share = 0.15,
        pages: Positive = 5,
        batch_size: Positive = 32,
        eval_batch_size: Positive = 64,
        seed: Seed = 0,
        split_seed: Seed = 0,
        root: str | None = None,
    ):
        self.place, self.longest, self.val_size = (name, root, val_size, test_size, split_seed), longest, val_size
        reader = StoryReader(words_of(*self.place, longest, at_least), features)
        super().__init__(name, reader, num_classes, in_features, pages, batch_size, eval_batch_size, seed)

    def read(self) -> dict[str, Books]:
        """Read the texts, and compute the features of the pictures unless they are kept from before."""
        parts = parts_of(*self.place)
        files = list(dict.fromkeys(file for found in parts.values() for book in found for file, _ in book.pages))
        features, place = read_features(self.features, files), {file: i for i, file in enumerate(files)}
        read: dict[str, Books] = {}
        for part, found in parts.items():
            pages = [page for book in found for page in book.pages]
            texts = [self.reader.encode(cut(pieces(text), self.longest)) for _, text in pages]
            read[part] = Books(features[[place[file] for file, _ in pages]], texts, [len(b.pages) for b in found])
        return read

    def contents(self) -> dict[str, str]:
        """The digest of all texts, by which a resumed run notices changes."""
        texts = (text for found in parts_of(*self.place).values() for book in found for _, text in book.pages)
        return {"data.root": digest("\n".join(texts).encode())}


def folder_of(name: str, root: str | None) -> Path:
    """The folder with the stories of that name."""
    if name == "small_stories":
        return EMBEDDED / name
    given = Path(root).expanduser() if root else None
    if name == "album":
        return given or data_root() / "albums"
    return (given or data_root()) / name


@lru_cache(maxsize=4)
def parts_of(
    name: str, root: str | None, val_size: float, test_size: float, split_seed: int
) -> dict[str, list[albums.Book]]:
    """The books of each part, read once."""
    found = albums.books(folder_of(name, root), name)
    if name == "small_stories":  # two books, to try the commands with: one to learn, the other to test
        return {"train": found[:1], "val": found[1:], "test": found[1:]}
    return albums.split(found, {"val": val_size, "test": test_size}, split_seed)


def words_of(
    name: str, root: str | None, val_size: float, test_size: float, split_seed: int, longest: int, at_least: int
) -> str:
    """The vocabulary of the training texts."""
    found = parts_of(name, root, val_size, test_size, split_seed)["train"]
    return vocabulary((cut(pieces(text), longest) for book in found for _, text in book.pages), at_least)


def sizes(*, _parent_: Any) -> int:
    """A resolver for configs: the size of the vocabulary, from the settings in the same node of the config."""
    keys = ("name", "root", "val_size", "test_size", "split_seed", "longest", "at_least")
    return len(words_of(*(_parent_.get(key) for key in keys)).split()) + 2
