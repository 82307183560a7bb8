"""Predicting the classes of image files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from zoo.errors import ZooError
from zoo.pretrained import load

BATCH = 256


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The files given, and for a folder all images directly in it, by name.

    Raises:
        ZooError: a folder without images.
    """
    known = Image.registered_extensions()
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in known)
            if not found:
                raise ZooError(f"{path}: the folder has no images in it")
            files += found
        else:
            files.append(path)
    return files


@torch.inference_mode()
def predict_files(
    source: str | Path, files: Sequence[Path], top: int = 3, invert: bool = False, trust: Sequence[str] = ()
) -> tuple[list[dict[str, Any]], list[str]]:
    """Classify image files.

    Returns:
        For each image that could be read its file and the ``top`` classes with their probabilities; and a message for
        each file that could not.
    """
    model: Any = load(source, trust)
    read: list[tuple[Path, torch.Tensor]] = []
    errors: list[str] = []
    for file in files:
        try:
            read.append((file, model.preprocess.read(file, invert=invert)))
        except ZooError as error:
            errors.append(str(error))
    results: list[dict[str, Any]] = []
    for start in range(0, len(read), BATCH):
        part = read[start : start + BATCH]
        probabilities = model(model.preprocess(torch.cat([image for _, image in part]))).softmax(1)
        values, indices = probabilities.topk(min(top, len(model.classes)))
        for (file, _), row, classes in zip(part, values.tolist(), indices.tolist(), strict=True):
            predictions = [
                {"class": model.classes[c], "probability": round(p, 6)} for p, c in zip(row, classes, strict=True)
            ]
            results.append({"file": str(file), "predictions": predictions})
    return results, errors
