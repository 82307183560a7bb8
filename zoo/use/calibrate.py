"""How far a classifier's confidence can be trusted: a reliability diagram, and temperature scaling."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.errors import ZooError
from zoo.pretrained.loading import load
from zoo.use.int8 import classifier_data

BINS = 15  # as in Guo et al. 2017, and in the cards' calibration_error
BATCH = 250


@dataclass
class Calibration:
    """The calibration of a classifier on the test split.

    Attributes:
        error: the expected calibration error, in [0, 1].
        loss: the mean negative log-likelihood of the right class, in nats.
        temperature: what divides the logits so that the loss on the validation split is lowest; None if the model was
            trained on all training images, so that no validation split is left.
        scaled_error, scaled_loss: the calibration error and the loss with this temperature.
        confidence, accuracy, counts: of the test images in each of ``BINS`` equal bins of the confidence; (BINS,) each.
    """

    error: float
    loss: float
    temperature: float | None
    scaled_error: float | None
    scaled_loss: float | None
    confidence: Tensor
    accuracy: Tensor
    counts: Tensor


def calibrate(
    source: str | Path, output: Path, trust: Sequence[str] = (), root: str | None = None, examples: int = 0
) -> Calibration:
    """Measure a classifier's calibration on its test split, fit a temperature on its validation split, and draw the
    reliability diagram (Guo et al. 2017, sections 2 and 4.2).

    The logits are those of one view of each image; a card whose task averages over views (``tta``) has another error.

    Args:
        source, trust: as in ``zoo.load``.
        output: the picture to write.
        root: the folder of the data; None for the default one.
        examples: the number of test images; 0 means all.

    Raises:
        ZooError: the model is no classifier of images, or the picture cannot be written.
    """
    model: Any = load(source, trust)
    data = classifier_data(model, root, trust, "calibration")
    images, labels = (tensor[: examples or None] for tensor in data.splits["test"])
    logits = logits_of(model, images)
    temperature = scaled_error = scaled_loss = None
    held_out, right = data.splits["val"]
    if len(right):
        temperature = fit_temperature(logits_of(model, held_out), right)
        scaled_error, scaled_loss = measure(logits / temperature, labels)
    found = Calibration(*measure(logits, labels), temperature, scaled_error, scaled_loss, *bins_of(logits, labels))
    draw(found, model.card.name, output)
    return found


@torch.no_grad()
def logits_of(model: Any, images: Tensor) -> Tensor:
    """Raw images (N, H, W, C) to logits (N, classes)."""
    return torch.cat([model(model.preprocess(batch)).float() for batch in images.split(BATCH)])


def measure(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """The calibration error and the mean negative log-likelihood of logits (N, classes)."""
    return calibration_error(logits, labels), float(F.cross_entropy(logits, labels))


def calibration_error(logits: Tensor, labels: Tensor) -> float:
    """The expected calibration error of logits (N, classes), in [0, 1]."""
    from torchmetrics.functional.classification import multiclass_calibration_error

    return float(multiclass_calibration_error(logits.softmax(1), labels, logits.shape[1], n_bins=BINS))


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature that divides logits (N, classes) so that their cross-entropy with the labels (N,) is lowest."""
    scale = torch.zeros(1, dtype=torch.float64, requires_grad=True)  # of the logarithm, so that it stays above 0
    logits = logits.double()
    optimizer = torch.optim.LBFGS([scale], lr=0.1, max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(logits / scale.exp(), labels)
        value.backward()
        return value

    optimizer.step(loss)
    return float(scale.detach().exp())


def bins_of(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean confidence, accuracy (both 0 in an empty bin) and count of each bin, (BINS,) each."""
    confidence, predicted = logits.softmax(1).max(1)
    place = (confidence * BINS).long().clamp(max=BINS - 1)  # (N,)
    counts = torch.bincount(place, minlength=BINS)
    sums = (torch.bincount(place, weights=values, minlength=BINS) for values in (confidence, predicted == labels))
    mean, right = (total / counts.clamp(min=1) for total in sums)
    return mean, right, counts


def draw(found: Calibration, name: str, path: Path) -> None:
    """Write the reliability diagram: accuracy by confidence, and the number of images of each bin."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ZooError("the reliability diagram needs matplotlib: pip install matplotlib") from None
    figure = Figure(figsize=(5, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    left = [i / BINS for i in range(BINS)]
    above.bar(left, found.accuracy.tolist(), 1 / BINS, align="edge", edgecolor="black", label="accuracy")
    above.plot([0, 1], [0, 1], "k--", label="perfectly calibrated")
    filled = found.counts > 0
    above.plot(found.confidence[filled].tolist(), found.accuracy[filled].tolist(), "ro", label="mean confidence")
    above.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), title=f"{name}: calibration error {found.error:.2%}")
    above.legend()
    below.bar(left, found.counts.tolist(), 1 / BINS, align="edge", edgecolor="black")
    below.set(xlabel="confidence", ylabel="test images", yscale="symlog")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise ZooError(f"{path} cannot be written: {error}; choose another --output, such as NAME.png") from None
