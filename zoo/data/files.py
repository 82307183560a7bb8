"""Listing the files in a folder of images: the images of each split and class, and the files that are left out."""

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
# Reasons why files are left out, as the messages state them
NO_IMAGE = "not named as images are"
NO_CLASS = "in no class's folder"
NO_FILE = "pipes, sockets or devices"
BROKEN = "links that lead nowhere"
TWICE = "there already by another name, or links to a folder that they lie in"


@dataclass
class Listing:
    """The files in a folder of images.

    Attributes:
        images: the image files of each split with their labels, sorted by class and name.
        others: files that are left out, by the reason; hidden files are not listed.
    """

    images: dict[str, list[tuple[Path, int]]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    others: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))

    def left_out(self, root: Path) -> str | None:
        """A line that counts and names the files that are left out; None if there are none."""
        groups = [(why, self.others[why]) for why in (NO_CLASS, NO_IMAGE, NO_FILE, BROKEN, TWICE) if self.others[why]]
        n = sum(len(files) for _, files in groups)
        are = "1 file is" if n == 1 else f"{n:,} files are"
        return f"{root}: {are} left out; {reasons(groups, root)}" if n else None


def reasons(groups: Sequence[tuple[str, Sequence[Path]]], root: Path, most: int = 3) -> str:
    """The reasons why files are left out, each with the number of files and the names of the first ``most``."""
    said = []
    for why, files in groups:
        names = ", ".join(str(path.relative_to(root)) for path in files[:most])
        said.append(f"{why}: {len(files):,} ({names}{', …' if len(files) > most else ''})")
    return "; ".join(said)


def kind_of(path: Path) -> str | None:
    """Why a file cannot be an image, judged by its name and type without reading it; None if it may be one."""
    try:
        status = path.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return BROKEN
        return None if path.suffix.lower() in SUFFIXES else NO_IMAGE  # reading it will report the error
    if not stat.S_ISREG(status.st_mode):
        return NO_FILE
    return None if path.suffix.lower() in SUFFIXES else NO_IMAGE


def folders_above(folder: Path) -> set[str]:
    """The real paths of a folder and of all folders above it, with links in the given path and with links resolved."""
    ways = Path(os.path.abspath(folder)), Path(os.path.realpath(folder))
    return {os.path.realpath(place) for way in ways for place in (way, *way.parents)}


def files_in(folder: Path, above: set[str], others: dict[str, list[Path]]) -> Iterator[tuple[Path, str]]:
    """The files in a folder and its subfolders, except hidden ones, each with its real path.

    Linked folders are followed, each once. A link to a folder above, such as the one that contains all classes, is
    added to ``others`` instead, because it would lead to the images of other classes.

    Args:
        above: ``folders_above`` of the folder that contains this one.
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
    """List the image files of each split with their labels, including those in subfolders of a class's folder.

    Raises:
        ZooError: a class has no images; a class is missing among the training images; a file belongs, through links,
            to two classes or two splits; or a folder cannot be read.
    """
    folders = split_folders(root)
    found = Listing()
    places: dict[str, Place] = {}  # by a file's real path
    add_loose(root, found.others)
    for split in SPLITS:
        folder = folders[split] or (root if split == "train" else None)
        if folder is None:
            continue
        own = {path.name for path in subfolders(folder)}
        if unknown := own - {*classes}:
            raise ZooError(f"{folder} has classes that are not among the training images: {', '.join(sorted(unknown))}")
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
    """Where an image was found: its path, its split, and the number of its class."""

    path: Path
    split: str
    label: int


def is_first(place: Place, real: str, places: dict[str, Place], others: dict[str, list[Path]]) -> bool:
    """Whether a file may be an image and has not been found before under another name.

    If so, it is added to ``places``, otherwise to ``others``.

    Args:
        real: the file's real path.

    Raises:
        ZooError: the file was found in another class or another split before.
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
    """Add the files directly in a folder, which belong to no class, to ``others``; hidden files are ignored."""
    try:
        loose = sorted(path for path in folder.iterdir() if not path.is_dir() and not is_hidden(path.name))
    except OSError as error:
        raise unreadable(error) from None
    for path in loose:
        others[BROKEN if kind_of(path) == BROKEN else NO_CLASS].append(path)


def carve(
    files: dict[str, list[tuple[Path, int]]], shares: dict[str, float], seed: int, classes: Sequence[str]
) -> dict[str, list[tuple[Path, int]]]:
    """Complete the splits: one that has no files gets a share of each class's training images.

    The images of a class are ordered by hashes of the seed and their names, so that most images stay in their split
    when others are added. If the share for validation is 0, the validation files are used for training.
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
