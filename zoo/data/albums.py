"""Books of pictures and texts in a folder: African Storybook, Potter, VIST's format, and albums of the user's own.

A folder holds one of these, looked for in this order:

- ``stories.json``: a list of books with ``title``, ``credit`` and ``pages`` of ``image`` and ``text``;
- ``pairs.json``: a list of pages with ``book``, ``file`` and ``text``;
- ``train.story-in-sequence.json``, ``val.…`` and ``test.…``, as VIST has them (Huang et al. 2016), with the pictures in
  ``images/ID.jpg``;
- a folder for each book, with pictures in the order of their names, and beside each ``NAME.jpg`` its text ``NAME.txt``.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zoo.config.files import MB, read_file
from zoo.data.image_file import image_content, readable_suffixes
from zoo.data.layout import is_hidden
from zoo.data.story_words import pieces
from zoo.errors import ZooError

LIST_BYTES = 200 * MB  # largest size of a list of stories
PARTS = ("train", "val", "test")
SHARED_WORDS = 6  # a text of at least so many words that is in two books connects them
SUFFIXES = (".jpg", ".png", ".gif", ".jpeg", ".bmp")  # of VIST's pictures, in the order in which they are looked for


class Book(NamedTuple):
    """A book: its title, who made it, its pages of a picture file and a text, and its part if the data set says so."""

    title: str
    credit: str
    pages: list[tuple[Path, str]]
    part: str | None = None


def books(root: Path, name: str) -> list[Book]:
    """The books in a folder, with pages that have a picture and a text.

    Raises:
        ZooError: there is no such folder, or it holds nothing of what the module's docstring lists.
    """
    readers = (("stories.json", storybook), ("pairs.json", paired), ("train.story-in-sequence.json", vist))
    try:
        found = next((read(root) for file, read in readers if (root / file).exists()), None)
        found = own_albums(root) if found is None and root.is_dir() else found
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ZooError(f"{root}: its list of stories is damaged ({type(error).__name__}: {error})") from None
    found = [book._replace(pages=[page for page in book.pages if pieces(page[1])]) for book in found or ()]
    found = [book for book in found if book.pages]
    if not found:
        raise ZooError(f"data={name}: {root} has no stories; {ADVICE.get(name, ADVICE['album'])}")
    return found


ADVICE = {
    "african_storybook": "put stories.json and images/ there: a list of books with title, credit and pages of image "
    "and text, made from github.com/global-asp/asp-source and github.com/global-asp/asp-imagebank",
    "potter": "put pairs.json and the pictures there: a list of pages with book, file and text, from gutenberg.org",
    "vist": "put train.story-in-sequence.json, val.… and test.… and images/ from visionandlanguage.net there",
    "album": "give data.root=FOLDER with a folder for each book: pictures, and beside each NAME.jpg its text NAME.txt",
}


def listed(path: Path) -> Any:
    return json.loads(read_file(path, LIST_BYTES).decode())


def inside(root: Path, name: Any) -> Path:
    """A file of the folder that a list names; the list cannot lead to other folders."""
    path = Path(str(name))
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{str(name)!a} is not in the folder")
    return root / path


def storybook(root: Path) -> list[Book]:
    return [
        Book(
            str(book["title"]),
            credit_of(book.get("credit", "")),
            [(inside(root, page["image"]), str(page["text"])) for page in book["pages"] if page.get("image")],
        )
        for book in listed(root / "stories.json")
    ]


def credit_of(said: Any) -> str:
    """Who made a book, in one line."""
    return ", ".join(f"{key}: {value}" for key, value in said.items()) if isinstance(said, Mapping) else str(said)


def paired(root: Path) -> list[Book]:
    pages: dict[str, list[tuple[Path, str]]] = defaultdict(list)
    for page in listed(root / "pairs.json"):
        pages[str(page["book"])].append((inside(root, page["file"]), str(page["text"])))
    return [Book(title, "", own) for title, own in pages.items()]


def vist(root: Path) -> list[Book]:
    """VIST's stories of five sentences; those with a picture that is not there are left out."""
    found: list[Book] = []
    for part in PARTS:
        stories: dict[str, list[tuple[int, Path | None, str]]] = defaultdict(list)
        for (said,) in listed(root / f"{part}.story-in-sequence.json")["annotations"]:
            names = (f"images/{said['photo_flickr_id']}{suffix}" for suffix in SUFFIXES)
            file = next((path for name in names if (path := inside(root, name)).exists()), None)
            order = int(said["worker_arranged_photo_order"])
            stories[str(said["story_id"])].append((order, file, str(said["text"])))
        for title, pages in stories.items():
            pages.sort(key=lambda page: page[0])
            whole = [(file, text) for _, file, text in pages if file is not None]
            if len(whole) == len(pages):
                found.append(Book(title, "", whole, part))
    return found


def own_albums(root: Path) -> list[Book]:
    suffixes = readable_suffixes()
    found = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not is_hidden(path.name)):
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)
        texts = [(file, file.with_suffix(".txt")) for file in files]
        found.append(
            Book(folder.name, "", [(file, read_file(text, MB).decode()) for file, text in texts if text.exists()])
        )
    return found


# --- parts ------------------------------------------------------------------------------------------------------------


def split(found: Sequence[Book], shares: Mapping[str, float], seed: int) -> dict[str, list[Book]]:
    """The books of "train", "val" and "test".

    Books that share a picture, or a text of ``SHARED_WORDS`` words or more, are always in the same part: some stories
    are in a collection twice, under two titles or for two levels of reading. Groups of more than a tenth of all books
    are for training; the others are dealt in a random order, until test and then validation have their share.
    """
    if all(book.part for book in found):
        return {part: [book for book in found if book.part == part] for part in PARTS}
    import torch

    groups = connected([keys(book) for book in found])
    order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist()
    parts: dict[str, list[int]] = {part: [] for part in PARTS}
    for group in (groups[i] for i in order):
        room = (part for part in ("test", "val") if len(parts[part]) < shares[part] * len(found))
        parts["train" if len(group) > max(1, len(found) / 10) else next(room, "train")] += group
    return {part: [found[i] for i in sorted(numbers)] for part, numbers in parts.items()}


def keys(book: Book) -> set[str]:
    """What connects a book with others: the digests of its pictures, and its longer texts."""
    texts = (" ".join(pieces(text)) for _, text in book.pages)
    return {hashlib.sha256(image_content(file)).hexdigest() for file, _ in book.pages} | {
        text for text in texts if len(re.findall(r"\w+", text)) >= SHARED_WORDS
    }


def connected(sets: Sequence[set[str]]) -> list[list[int]]:
    """The connected components of sets that share an element, as sorted lists of their numbers."""
    group = list(range(len(sets)))
    owner: dict[str, int] = {}

    def root(i: int) -> int:
        while group[i] != i:
            group[i] = i = group[group[i]]
        return i

    for i, own in enumerate(sets):
        for key in own:
            group[root(i)] = root(owner.setdefault(key, i))
    members: dict[int, list[int]] = defaultdict(list)
    for i in range(len(sets)):
        members[root(i)].append(i)
    return list(members.values())
