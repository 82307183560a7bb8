"""What is in a folder of images: its classes, and the files of its splits."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from zoo.data.image_file import readable_suffixes
from zoo.errors import ZooError

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}  # what their folders are called, in any case


def class_names(root: str | Path | None) -> list[str]:
    """The classes of a folder, sorted.

    Raises:
        ZooError: no folder, no such folder, fewer than two classes.
    """
    if root is None:
        raise ZooError(
            "which images? give their folder, with one folder of images a class in it: data.root=my_photos "
            "(zoo evaluate: --root my_photos)"
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
    return names


def split_folders(root: Path) -> dict[str, Path | None]:
    """The folders of the splits; all None where the classes' folders stand in ROOT itself.

    A folder "train" with images in it, among others, is a class, of vehicles.

    Raises:
        ZooError: two folders that look like the same split; validation or test images without training images beside
            them, or without folders of classes; other folders beside those of the splits.
    """
    inside = subfolders(root)
    named = {split: [f for f in inside if f.name.lower() in names] for split, names in SPLITS.items()}
    known = [folder for folders in named.values() for folder in folders]
    if not any(subfolders(folder) for folder in known) and not (len(known) == len(inside) > 1):
        return dict.fromkeys(SPLITS)
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
        raise ZooError(f"{root} has {', '.join(other)} beside {beside}; valid: train, val, test")
    for folder in known:
        if not subfolders(folder):
            raise ZooError(
                f"{folder} is taken for a part of the images, but has no folders of classes in it, as "
                f"{folder}/cat/1.jpg; add them, or remove or rename it"
            )
    return found


def subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise unreadable(error) from None


def unreadable(error: OSError) -> ZooError:
    return ZooError(f"{error.filename}: the folder cannot be read: {error.strerror}")


def files_in(folder: Path) -> Iterator[Path]:
    """The files in a folder and its folders, but for hidden ones; linked folders too, each once."""
    seen: set[str] = set()

    def fail(error: OSError) -> None:
        raise unreadable(error)

    for here, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if (real := os.path.realpath(here)) in seen:  # a link to a folder that it lies in would never end
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(here, name) for name in names if not name.startswith("."))


def list_images(root: Path, classes: Sequence[str]) -> tuple[dict[str, list[tuple[Path, int]]], list[Path]]:
    """The image files of each split with their labels, those in folders of a class's folder too, by name.

    Returns:
        The files, and those that are left out, by their names or as they lie in no class's folder; no hidden ones.

    Raises:
        ZooError: a class without images; a class that is not among the training images.
    """
    folders = split_folders(root)
    suffixes = readable_suffixes()
    files: dict[str, list[tuple[Path, int]]] = {split: [] for split in SPLITS}
    others = loose_files(root)
    for split in SPLITS:
        folder = folders[split] or (root if split == "train" else None)
        if folder is None:
            continue
        if unknown := [f.name for f in subfolders(folder) if f.name not in classes]:
            raise ZooError(f"{folder} has classes that the training images have not: {', '.join(unknown)}")
        if folder != root:
            others += loose_files(folder)
        for label, name in enumerate(classes):
            inside = sorted(files_in(folder / name)) if (folder / name).is_dir() else []
            images = [path for path in inside if path.suffix.lower() in suffixes and path.is_file()]
            others += sorted(set(inside) - set(images))
            if not images and (split == "train" or (folder / name).is_dir()):
                raise ZooError(f"{folder / name} has no images in it: add some (JPEG, PNG …), or remove the folder")
            files[split] += [(path, label) for path in images]
    return files, others


def loose_files(folder: Path) -> list[Path]:
    """The files that lie in a folder itself, but for hidden ones."""
    return sorted(path for path in folder.iterdir() if not path.is_dir() and not path.name.startswith("."))


def left_out(others: Sequence[Path], root: Path) -> str:
    """A line that counts and names files that are not read."""
    names = ", ".join(str(path.relative_to(root)) for path in others[:5])
    are = "1 file is" if len(others) == 1 else f"{len(others):,} files are"
    more = ", …" if len(others) > 5 else ""
    return f"{root}: {are} left out, not named as images are or not in a class's folder: {names}{more}"


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
