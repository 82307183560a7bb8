"""The layout of a folder of images: which of its subfolders are splits, and which are classes."""

import re
import unicodedata
from collections import defaultdict
from pathlib import Path

from zoo.errors import ZooError

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}  # the names of their folders, in upper or lower case
# Splits "trainset" into "train" and "set", but leaves "trains", which is a class
WITH_SET = re.compile(
    rf"\b({'|'.join(word for words in SPLITS.values() for word in words)})(sets?|data|images?|imgs?)\b"
)
OF_SYSTEMS = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
# Finds the words of "seg_train" (seg, train) or "trainingSet" (training, Set); numbers are left out
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")


def class_names(root: str | Path | None) -> list[str]:
    """The names of the classes in a folder, sorted.

    Raises:
        ZooError: no folder is given, there is no such folder, it has fewer than two classes, or two of their names look
            the same.
    """
    if root is None:
        raise ZooError(
            "which images? give their folder, which holds one folder of images per class: data.root=my_photos "
            "(zoo evaluate, calibrate and export: --root my_photos)"
        )
    root = Path(root).expanduser()
    if not root.is_dir():
        raise ZooError(f"data.root={root}: there is no such folder")
    where = split_folders(root)["train"] or root
    names = [folder.name for folder in subfolders(where)]
    if not names:
        raise ZooError(
            f"{where} has no folders in it: an image's class is the folder that it lies in, as {where}/cat/1.jpg"
        )
    if len(names) == 1:
        raise ZooError(
            f"{where} has one class only, {names[0]}: to tell classes apart, give a folder each of two or more"
        )
    looks: dict[str, str] = {}  # é may be one character or two, depending on the system
    for name in names:
        if (other := looks.setdefault(" ".join(unicodedata.normalize("NFC", name).split()), name)) != name:
            raise ZooError(
                f"{where} has two classes whose names look the same, {other!a} and {name!a}; put them into one, or "
                f"rename one"
            )
    return names


def part_of(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The split that a folder's name mentions, and its other words: "seg_train" gives ("train", ("seg",)).

    None if the name mentions no split or several. Numbers are ignored: "train2017" gives ("train", ()).
    """
    words = WITH_SET.sub(r"\1 \2", " ".join(WORDS.findall(name)).lower()).split()
    found = [(split, word) for word in words for split, known in SPLITS.items() if word in known]
    if len(found) != 1:
        return None
    split, word = found[0]
    return split, tuple(other for other in words if other != word)


def are_parts(inside: dict[Path, tuple[str, tuple[str, ...]] | None]) -> bool:
    """Whether folders, given with ``part_of`` their names, are splits rather than classes.

    They are splits in each of these cases: a folder has exactly the name of a split and contains folders; all of two or
    more folders have exactly such names; the names of two folders differ only in the word for the split (train_images,
    test_images); or folders of two splits both contain folders. A folder "train" that contains only images, beside
    others, is a class (of vehicles), and so are bullet_train and freight_train.
    """
    known = {folder: part for folder, part in inside.items() if part}
    exact = [folder for folder, (_, others) in known.items() if not others]
    if any(map(subfolders, exact)) or len(exact) == len(inside) > 1:
        return True
    named: dict[object, set[str]] = defaultdict(set)
    for folder, (split, others) in known.items():
        named[others].add(split)
        if subfolders(folder):
            named["with folders in them"].add(split)
    return any(len(splits) > 1 for splits in named.values())


def split_folders(root: Path) -> dict[str, Path | None]:
    """The folders of the splits; all None if the folders of the classes are in ``root`` itself.

    Raises:
        ZooError: two folders look like the same split; there is a folder for validation or test but none for training;
            a split has no folders of classes; or there are other folders beside those of the splits.
    """
    inside = {folder: part_of(folder.name) for folder in subfolders(root)}
    if not are_parts(inside):
        return dict.fromkeys(SPLITS)
    named = {split: [f for f, part in inside.items() if part and part[0] == split] for split in SPLITS}
    known = [folder for folders in named.values() for folder in folders]
    for split, folders in named.items():
        if len(folders) > 1:
            alike = " and ".join(folder.name for folder in folders)
            raise ZooError(f"{root} has {alike}, which are both taken for its {split} images; put them into one")
    found = {split: folders[0] if folders else None for split, folders in named.items()}
    if found["train"] is None:
        raise ZooError(
            f"{root} has {', '.join(f.name for f in known)} with images to measure on, but no folder train beside it; "
            f"add one, or give {known[0].name} another name if it is a class"
        )
    if other := [folder.name for folder in inside if folder not in known]:
        beside = ", ".join(sorted(folder.name for folder in known))
        raise ZooError(
            f"{root} has {', '.join(other)} beside {beside}, which are taken for parts of the images; valid: train, "
            f"val, test; remove the others, or give another name to what is a class"
        )
    for folder in known:
        if not subfolders(folder):
            raise ZooError(
                f"{folder} is taken for a part of the images, but has no folders of classes in it, as "
                f"{folder}/cat/1.jpg; add them, or remove or rename it"
            )
    return found


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted by name, without hidden ones."""
    try:
        return sorted(path for path in folder.iterdir() if not is_hidden(path.name) and path.is_dir())
    except OSError as error:
        raise unreadable(error) from None


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or added by a system; thumbnails in @eaDir would be taken for images."""
    return name.startswith(".") or name in OF_SYSTEMS


def unreadable(error: OSError) -> ZooError:
    return ZooError(f"{error.filename}: the folder cannot be read: {error.strerror}")
