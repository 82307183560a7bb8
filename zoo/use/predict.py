"""Predict the classes of image files."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image

from zoo.contracts import ReadsImages, ReadsSpeech, SeesImages
from zoo.data.files import NO_IMAGE, SUFFIXES, reasons
from zoo.data.layout import is_hidden
from zoo.data.preprocess import Seen
from zoo.errors import ZooError
from zoo.pretrained.loading import load
from zoo.pretrained.typical import FAR, Typical
from zoo.terminal import say
from zoo.use.sheet import check_picture_file, save_sheet

Read = TypeVar("Read")
BATCH = 256
DEEPER = "folders, which can be given too"


def image_files(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The given files and, for each folder, the images directly in it, sorted by name; and an error message for each
    folder without images.

    For each folder with images, a line on stderr tells which entries are left out and why. Hidden entries are left out
    without a word. For a folder without images, the error message tells this.
    """
    files: list[Path] = []
    errors: list[str] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        try:
            entries = sorted(entry for entry in path.iterdir() if not is_hidden(entry.name))
            inside = [entry for entry in entries if entry.suffix.lower() in SUFFIXES]
            others = [entry for entry in entries if entry.suffix.lower() not in SUFFIXES]
            folders = [entry for entry in others if entry.is_dir()]
        except OSError as error:
            errors.append(f"{path}: the folder cannot be read: {error.strerror}")
            continue
        groups = [(NO_IMAGE, [entry for entry in others if entry not in folders]), (DEEPER, folders)]
        said = reasons([group for group in groups if group[1]], path)
        if not inside:
            errors.append(f"{path}: the folder has no images in it{f'; {said}' if said else ''}")
        elif said:
            say(f"note: {path}: some of its entries are left out; {said}")
        files += inside
    return files, errors


def read_files(
    preprocess: Any, paths: Sequence[Path], invert: bool = False
) -> tuple[list[tuple[Path, torch.Tensor]], list[str]]:
    """Each image file, including those in folders, with its image, uint8 (1, H, W, C); and an error message for each
    file or folder that could not be read.
    """
    return each_read(paths, lambda file: preprocess.read(file, invert=invert))


def see_files(
    preprocess: Any, paths: Sequence[Path], invert: bool = False
) -> tuple[list[tuple[Path, Seen]], list[str]]:
    """As ``read_files``, with what the model sees of each file; see ``zoo.data.preprocess.Seen``."""

    def see(file: Path) -> Seen:
        if isinstance(preprocess, SeesImages):
            return preprocess.see(file, invert=invert)
        pixels = preprocess.read(file, invert=invert)
        return Seen(pixels, Image.fromarray(pixels[0].squeeze(-1).numpy()))

    return each_read(paths, see)


def each_read(paths: Sequence[Path], read: Callable[[Path], Read]) -> tuple[list[tuple[Path, Read]], list[str]]:
    """Each file, including those in folders, with what is read from it; and an error message for each of the others."""
    files, errors = image_files(paths)
    done: list[tuple[Path, Read]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about odd details in files that it can read
        for file in files:
            try:
                done.append((file, read(file)))
            except ZooError as error:
                errors.append(str(error))
    return done, errors


@torch.inference_mode()
def predict_files(
    source: str | Path,
    paths: Sequence[Path],
    top: int = 3,
    invert: bool = False,
    trust: Sequence[str] = (),
    show: Path | None = None,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Classify image files, and the images in folders.

    Args:
        source, trust: as in ``zoo.load``.
        paths: image files, and folders with images directly in them.
        top: the number of classes given for each image.
        invert: exchange black and white when reading; for a model of digits or garments, which finds out by itself
            whether the object is dark or light, it says that the object is dark.
        show: a picture file that is written: each image as given, and beside it what the model saw.

    Returns:
        For each image that could be read, its file, the ``top`` most probable classes with their probabilities, and
        ``warnings``: why the image is unlike the training data, if it is; and an error message for each file or folder
        that could not be read.

    Raises:
        ZooError: as ``zoo.load``; the model is not a classifier of images; ``show`` cannot be written.
    """
    model: Any = load(source, trust)
    if not isinstance(model.preprocess, ReadsImages) or not model.classes:
        advice = "; try zoo transcribe" if isinstance(model.preprocess, ReadsSpeech) else ""
        raise ZooError(f"{source} does not classify images, so there is nothing to predict{advice}")
    typical = Typical.of(model.card.typical, len(model.classes), str(source)) if model.card.typical else None
    if show is not None:
        check_picture_file(show)
    seen, errors = see_files(model.preprocess, paths, invert)
    results: list[dict[str, Any]] = []
    for start in range(0, len(seen), BATCH):
        part = seen[start : start + BATCH]
        logits = model(model.preprocess(torch.cat([image.pixels for _, image in part])))
        if logits.shape != (len(part), len(model.classes)):
            many = f"{tuple(logits.shape[1:])} numbers per image"
            if logits.ndim != 2:
                raise ZooError(f"{source} gives {many}, so it is no classifier; try zoo sample or zoo reconstruct")
            raise ZooError(f"{source} gives {many}, but its card names {len(model.classes)} classes")
        values, indices = logits.softmax(1).topk(min(top, len(model.classes)))
        far = typical.far(logits).tolist() if typical else [False] * len(part)
        for (file, image), row, classes, unlike in zip(part, values.tolist(), indices.tolist(), far, strict=True):
            predictions = [
                {"class": model.classes[c], "probability": round(p, 6)} for p, c in zip(row, classes, strict=True)
            ]
            odd = [*image.warnings, *([FAR] if unlike else [])]
            results.append({"file": str(file), "predictions": predictions, "warnings": odd})
    if show is not None and seen:
        save_sheet([image for _, image in seen], results, show)
    return results, errors
