"""Predict the classes of image files."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from zoo.contracts import ReadsImages
from zoo.data.files import NO_IMAGE, SUFFIXES, reasons
from zoo.data.layout import is_hidden
from zoo.errors import ZooError
from zoo.pretrained.loading import load
from zoo.terminal import say

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
    files, errors = image_files(paths)
    read: list[tuple[Path, torch.Tensor]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about odd details in files that it can read
        for file in files:
            try:
                read.append((file, preprocess.read(file, invert=invert)))
            except ZooError as error:
                errors.append(str(error))
    return read, errors


@torch.inference_mode()
def predict_files(
    source: str | Path, paths: Sequence[Path], top: int = 3, invert: bool = False, trust: Sequence[str] = ()
) -> tuple[list[dict[str, Any]], list[str]]:
    """Classify image files, and the images in folders.

    Args:
        source, trust: as in ``zoo.load``.
        paths: image files, and folders with images directly in them.
        top: the number of classes given for each image.
        invert: exchange black and white when reading.

    Returns:
        For each image that could be read, its file and the ``top`` most probable classes with their probabilities; and
        an error message for each file or folder that could not be read.

    Raises:
        ZooError: as ``zoo.load``; the model is not a classifier of images.
    """
    model: Any = load(source, trust)
    if not isinstance(model.preprocess, ReadsImages) or not model.classes:
        raise ZooError(f"{source} does not classify images, so there is nothing to predict")
    read, errors = read_files(model.preprocess, paths, invert)
    results: list[dict[str, Any]] = []
    for start in range(0, len(read), BATCH):
        part = read[start : start + BATCH]
        logits = model(model.preprocess(torch.cat([image for _, image in part])))
        if logits.shape != (len(part), len(model.classes)):
            many = f"{tuple(logits.shape[1:])} numbers per image"
            if logits.ndim != 2:
                raise ZooError(f"{source} gives {many}, so it is no classifier; try zoo sample or zoo reconstruct")
            raise ZooError(f"{source} gives {many}, but its card names {len(model.classes)} classes")
        values, indices = logits.softmax(1).topk(min(top, len(model.classes)))
        for (file, _), row, classes in zip(part, values.tolist(), indices.tolist(), strict=True):
            predictions = [
                {"class": model.classes[c], "probability": round(p, 6)} for p, c in zip(row, classes, strict=True)
            ]
            results.append({"file": str(file), "predictions": predictions})
    return results, errors
