"""What is in a folder of images: its classes, the files of its splits, and their content as one tensor."""

import hashlib
import json
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import PIL
import torch
from torch import Tensor

from zoo.data.fetch import busy
from zoo.data.image_file import readable_suffixes
from zoo.data.preprocess import Preprocess
from zoo.errors import ZooError

SPLITS = {
    "train": ("train",),
    "val": ("val", "valid", "validation"),
    "test": ("test",),
}  # what their folders are called
FORMAT = 1  # of the kept tensor: another number where the same files are to be read otherwise


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

    A folder "train" with images in it is a class, of vehicles.
    """
    inside = {folder.name: folder for folder in subfolders(root)}
    found = {split: next((inside[n] for n in names if n in inside), None) for split, names in SPLITS.items()}
    if found["train"] is None or not subfolders(found["train"]):
        return dict.fromkeys(SPLITS)
    known = {folder.name for folder in found.values() if folder}
    if other := sorted(set(inside) - known):
        raise ZooError(f"{root} has {', '.join(other)} beside {', '.join(sorted(known))}; valid: train, val, test")
    return found


def subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise ZooError(f"{folder}: the folder cannot be read: {error.strerror}") from None


def list_images(root: Path, classes: Sequence[str]) -> dict[str, list[tuple[Path, int]]]:
    """The image files of each split with their labels, those in folders of a class's folder too, by name.

    Raises:
        ZooError: a class without images; a class that is not among the training images.
    """
    folders = split_folders(root)
    suffixes = readable_suffixes()
    files: dict[str, list[tuple[Path, int]]] = {}
    for split in SPLITS:
        folder = folders[split] or (root if split == "train" else None)
        files[split] = []
        if folder is None:
            continue
        if unknown := [f.name for f in subfolders(folder) if f.name not in classes]:
            raise ZooError(f"{folder} has classes that the training images have not: {', '.join(unknown)}")
        for label, name in enumerate(classes):
            inside = [p for p in (folder / name).rglob("*") if p.suffix.lower() in suffixes and p.is_file()]
            shown = [p for p in inside if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
            images = sorted(shown)
            if not images and (split == "train" or (folder / name).is_dir()):
                raise ZooError(f"{folder / name} has no images in it: add some (JPEG, PNG …), or remove the folder")
            files[split] += [(path, label) for path in images]
    return files


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


# --- reading it -----------------------------------------------------------------------------------------------------


def check_memory(n: int, preprocess: Preprocess, root: Path) -> None:
    """Raise a ``ZooError`` where n images would take over half of the memory: they stand in it twice when split."""
    size, channels, memory = preprocess.image_size, preprocess.channels, total_memory()
    needed = n * size * size * channels
    if memory and needed > memory / 2:
        raise ZooError(
            f"{root}: {n:,} images of {size}×{size}×{channels} take {needed / 1e9:,.1f} GB, more than half of this "
            f"machine's memory ({memory / 1e9:,.1f} GB); take a smaller data.image_size, or fewer images"
        )


def total_memory() -> int:
    """Bytes of this machine's memory; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0


def digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def read_images(files: Sequence[Path], root: Path, preprocess: Preprocess) -> Tensor:
    """All images, uint8 (N, H, W, C): mapped from the tensor that a run before left, or read and left for the next.

    What was left is taken if the files have the same names, sizes and times of change.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file

    kept = root / ".zoo" / f"{preprocess.resize}-{preprocess.image_size}x{preprocess.channels}.safetensors"
    stats = [(str(f.relative_to(root)), (s := f.stat()).st_size, s.st_mtime_ns) for f in files]
    key = digest(json.dumps([FORMAT, PIL.__version__, stats]))

    def mapped() -> Tensor | None:
        try:
            with safe_open(kept, "pt") as file:
                return file.get_tensor("images") if (file.metadata() or {}).get("key") == key else None
        except (SafetensorError, OSError):
            return None

    if (images := mapped()) is not None:
        return images
    with busy(f"reading {len(files):,} images of {root}, once"):
        images = decode(files, preprocess)
    part = kept.with_name(f".{kept.name}-{os.getpid()}")
    try:
        kept.parent.mkdir(exist_ok=True)
        save_file({"images": images}, part, metadata={"key": key})
        os.replace(part, kept)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            part.unlink()
        warnings.warn(f"{kept} cannot be written ({error}), so the next run reads the images again", stacklevel=2)
        return images
    return images if (again := mapped()) is None else again


def decode(files: Sequence[Path], preprocess: Preprocess) -> Tensor:
    """The images of the files, in as many threads as there are cores: decoding does not hold the interpreter's lock.

    Raises:
        ZooError: names the files that cannot be read.
    """
    size = preprocess.image_size
    images = torch.empty(len(files), size, size, preprocess.channels, dtype=torch.uint8)

    def put(i: int) -> str | None:
        try:
            images[i] = preprocess.read(files[i])[0]
        except ZooError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        complaints = [complaint for complaint in pool.map(put, range(len(files))) if complaint]
    if complaints:
        more = f" (and {len(complaints) - 1} more: {'; '.join(complaints[1:4])})" if len(complaints) > 1 else ""
        raise ZooError(f"{complaints[0]}; replace it, or take it out of the folder{more}")
    return images
