"""Classifiers of images with 8-bit weights and activations, as ONNX files, and the accuracy that this costs."""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.data.images import ImageData
from zoo.errors import ZooError
from zoo.pretrained.evaluate import data_of
from zoo.pretrained.loading import load
from zoo.use.export import check_extra, export

CALIBRATION_IMAGES = 500  # training images from which the ranges of the activations are taken
BATCH = 100


@dataclass
class Quantised:
    """An int8 file, and its accuracy and size in bytes beside those of the float file, both run by onnxruntime on the
    first ``examples`` images of the test split.
    """

    path: Path
    examples: int
    accuracy: float
    float_accuracy: float
    size: int
    float_size: int


def export_int8(
    source: str | Path,
    output: Path | None = None,
    trust: Sequence[str] = (),
    examples: int = 2000,
    root: str | None = None,
) -> Quantised:
    """Export a classifier of images to ONNX with int8 weights, one scale per output channel, and int8 activations.

    The ranges of the activations are those of ``CALIBRATION_IMAGES`` training images (static quantisation, Jacob et al.
    2018, section 3). Inputs, outputs and metadata are those of the float file.

    Args:
        source, trust: as in ``zoo.load``.
        output: the file to write; None means NAME.int8.onnx in the current folder.
        examples: the number of test images on which both files are measured; 0 means all.
        root: the folder of the data; None for the default one.

    Raises:
        ZooError: the model is no classifier of images, a package is missing, or the file would not be smaller.
    """
    check_extra()
    model: Any = load(source, trust)
    data = classifier_data(model, root, trust, "int8")
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Images(CalibrationDataReader):
        def __init__(self, x: Tensor):
            self.batches: Iterator[Tensor] = iter(x.split(BATCH))

        def get_next(self) -> Any:
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch.numpy()}

    path = output or Path(f"{Path(model.card.name).name}.int8.onnx")
    data.setup("fit")
    chosen, _ = data.splits["train"]
    images = model.preprocess(chosen[:CALIBRATION_IMAGES]).contiguous()
    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        export(source, "onnx", whole, trust)
        logging.disable(logging.WARNING)  # advice to optimise the file first, which the exporter has done
        try:
            int8 = QuantType.QInt8
            quantize_static(whole, small, Images(images), per_channel=True, activation_type=int8, weight_type=int8)
        finally:
            logging.disable(logging.NOTSET)
        sizes = small.stat().st_size, whole.stat().st_size
        if sizes[0] >= sizes[1]:
            raise ZooError(
                f"int8 makes {model.card.name} no smaller ({sizes[0]:,} bytes, not {sizes[1]:,}), since onnxruntime "
                "quantises none of its large layers; export it without --int8"
            )
        x, y = (tensor[: examples or None] for tensor in data.splits["test"])
        accuracy, before = (accuracy_of(file, model.preprocess, x, y) for file in (small, whole))
        try:
            path.write_bytes(small.read_bytes())
        except OSError as error:
            raise ZooError(f"{path} cannot be written: {error.strerror or error}; choose another --output") from None
    return Quantised(path, len(y), accuracy, before, *sizes)


def classifier_data(model: Any, root: str | None, trust: Sequence[str], who: str) -> ImageData:
    """The data of a classifier of images, with its test split.

    Raises:
        ZooError: the model is no such classifier.
    """
    card = model.card
    if "calibration_error" not in card.metrics and "accuracy" not in card.metrics and card.metric != "accuracy":
        raise ZooError(f"{who} is for classifiers of images, and {card.name} is none")
    data = data_of(model, card, root, trust)
    if not isinstance(data, ImageData):
        raise ZooError(f"{who} is for classifiers of images, and {card.name} is none")
    return data


def accuracy_of(path: Path, preprocess: Any, x: Tensor, y: Tensor) -> float:
    """The share of raw images x (N, H, W, C) that an ONNX file classifies as in y (N,)."""
    import onnxruntime

    run = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    right = 0
    for raw, labels in zip(x.split(BATCH), y.split(BATCH), strict=True):
        (logits,) = run.run(["logits"], {"images": preprocess(raw).contiguous().numpy()})
        right += int((torch.as_tensor(logits).argmax(1) == labels).sum())
    return right / len(y)
