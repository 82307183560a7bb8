"""Which files are in a folder of images: those of its classes and parts, and those that are left out."""

import errno
import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from zoo.data.image_file import readable_suffixes
from zoo.data.layout import SPLITS, is_hidden, split_folders, subfolders, unreadable
from zoo.errors import ZooError

SUFFIXES = readable_suffixes()
# Why files are left out, in the order in which it is said
NO_IMAGE = "not named as images are"
NO_CLASS = "in no class's folder"
NO_FILE = "pipes, sockets or devices"
BROKEN = "links that lead nowhere"
TWICE = "there already by another name, or links to a folder that they lie in"


@dataclass
class Listing:
    """What is in a folder of images.

    Attributes:
        images: the image files of each split with their labels, by name.
        others: those that are left out, hidden ones apart, by the reason.
    """

    images: dict[str, list[tuple[Path, int]]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    others: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))

    def left_out(self, root: Path) -> str | None:
        """A line that counts and names files that are not read; None where there are none."""
        groups = [(why, self.others[why]) for why in (NO_CLASS, NO_IMAGE, NO_FILE, BROKEN, TWICE) if self.others[why]]
        n = sum(len(files) for _, files in groups)
        are = "1 file is" if n == 1 else f"{n:,} files are"
        return f"{root}: {are} left out; {reasons(groups, root)}" if n else None


def reasons(groups: Sequence[tuple[str, Sequence[Path]]], root: Path, most: int = 3) -> str:
    """Why files are left out, with how many they are and the names of a few."""
    said = []
    for why, files in groups:
        names = ", ".join(str(path.relative_to(root)) for path in files[:most])
        said.append(f"{why}: {len(files):,} ({names}{', …' if len(files) > most else ''})")
    return "; ".join(said)


def kind_of(path: Path) -> str | None:
    """Why a file is no image that could be read, by its name and what it is; None where it may be one."""
    try:
        status = path.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return BROKEN
        return None if path.suffix.lower() in SUFFIXES else NO_IMAGE  # reading it will say
    if not stat.S_ISREG(status.st_mode):
        return NO_FILE
    return None if path.suffix.lower() in SUFFIXES else NO_IMAGE


def folders_above(folder: Path) -> set[str]:
    """A folder and those that it lies in, by the way that leads there and where they really are."""
    ways = Path(os.path.abspath(folder)), Path(os.path.realpath(folder))
    return {os.path.realpath(place) for way in ways for place in (way, *way.parents)}


def files_in(folder: Path, above: set[str], others: dict[str, list[Path]]) -> Iterator[tuple[Path, str]]:
    """The files in a folder and its folders, but for hidden ones, and where each really is.

    Linked folders too, each once. One that leads to a folder above, as to that of all classes, is among the others: in
    it are the images of other classes.

    Args:
        above: ``folders_above`` of the folder that this one lies in.
    """
    start = os.path.realpath(folder)
    seen = above | {str(place) for place in Path(start).parents}
    waiting = [(folder, start)]
    while waiting:
        here, real = waiting.pop()
        if real in seen:
            others[TWICE].append(here)
            continue
        seen.add(real)
        try:
            with os.scandir(here) as found:
                entries = sorted((entry for entry in found if not is_hidden(entry.name)), key=lambda e: e.name)
        except OSError as error:
            raise unreadable(error) from None
        deeper: list[tuple[Path, str]] = []
        for entry in entries:
            path = here / entry.name
            place = os.path.realpath(path) if entry.is_symlink() else os.path.join(real, entry.name)
            if is_folder(entry):
                deeper.append((path, place))
            else:
                yield path, place
        waiting += reversed(deeper)


def is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def list_images(root: Path, classes: Sequence[str]) -> Listing:
    """The image files of each split with their labels, those in folders of a class's folder too.

    Raises:
        ZooError: a class without images; a class that is not among the training images; a file that lies, by links, in
            two classes or in two parts; a folder that cannot be read.
    """
    folders = split_folders(root)
    found = Listing()
    places: dict[str, Place] = {}  # by where a file really is
    add_loose(root, found.others)
    for split in SPLITS:
        folder = folders[split] or (root if split == "train" else None)
        if folder is None:
            continue
        own = {path.name for path in subfolders(folder)}
        if unknown := own - {*classes}:
            raise ZooError(f"{folder} has classes that the training images have not: {', '.join(sorted(unknown))}")
        if folder != root:
            add_loose(folder, found.others)
        above = folders_above(folder)
        for label, name in enumerate(classes):
            inside = sorted(files_in(folder / name, above, found.others)) if name in own else []
            images = [path for path, real in inside if is_first(Place(path, split, label), real, places, found.others)]
            if not images and (split == "train" or name in own):
                raise ZooError(f"{folder / name} has no images in it: add some (JPEG, PNG …), or remove the folder")
            found.images[split] += [(path, label) for path in images]
    return found


class Place(NamedTuple):
    """Where an image lies: its name, its split, and its class's number."""

    path: Path
    split: str
    label: int


def is_first(place: Place, real: str, places: dict[str, Place], others: dict[str, list[Path]]) -> bool:
    """Whether a file is an image that lies nowhere else, and notes it in ``places``; else it is among the others.

    Args:
        real: where it really is.

    Raises:
        ZooError: it is in another class or another part, too.
    """
    if why := kind_of(place.path):
        others[why].append(place.path)
        return False
    before = places.setdefault(real, place)
    if (before.split, before.label) != (place.split, place.label):
        alone = "is in one part" if before.label == place.label else "has one class"
        raise ZooError(f"{place.path} is the same file as {before.path}, and an image {alone}; remove one of the links")
    if before is not place:
        others[TWICE].append(place.path)
    return before is place


def add_loose(folder: Path, others: dict[str, list[Path]]) -> None:
    """Add the files that lie in a folder itself, but for hidden ones, by the reason why they are none of a class."""
    try:
        loose = sorted(path for path in folder.iterdir() if not path.is_dir() and not is_hidden(path.name))
    except OSError as error:
        raise unreadable(error) from None
    for path in loose:
        others[BROKEN if kind_of(path) == BROKEN else NO_CLASS].append(path)


def carve(
    files: dict[str, list[tuple[Path, int]]], shares: dict[str, float], seed: int, classes: Sequence[str]
) -> dict[str, list[tuple[Path, int]]]:
    """The splits, those that have no files as a share of each class's training images.

    Each class is put in an order by hashes of the seed and its files' names, so that images that are added leave the
    others about where they were. Without a share for validation its own files are trained on.
    """
    split = {name: list(part) for name, part in files.items()}
    wanted = {name: share for name, share in shares.items() if share and not files[name]}
    if not shares["val"]:
        split["train"], split["val"] = split["train"] + split["val"], []
    if not wanted:
        return split
    training, split["train"] = split["train"], []
    for label, name in enumerate(classes):
        own = sorted((p for p in training if p[1] == label), key=lambda p: digest(f"{seed}/{name}/{p[0].name}"))
        n = len(own)
        for part, share in wanted.items():
            held = max(1, round(share * n))
            split[part] += sorted(own[:held])
            own = own[held:]
        if not own:
            raise ZooError(
                f"class {name} has too few images ({n}) to hold some out for {' and '.join(wanted)} and train on the "
                f"rest: add some, or make data.val_size and data.test_size smaller"
            )
        split["train"] += sorted(own)
    return split


def digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
