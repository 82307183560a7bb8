"""Whether an input is like a classifier's training data, judged by the features of its last layer.

The card keeps what was measured on the training images: each class's mean of the logits, their common precision (the
inverse of the covariance within the classes), and two limits. An image is far from the training data if its Mahalanobis
distance to the nearest class (Lee et al. 2018, "A simple unified framework for detecting out-of-distribution samples"),
or its energy, minus the logarithm of the sum of exponentials of the logits (Liu et al. 2020, "Energy-based
out-of-distribution detection"), is larger than for nearly all images of the training split.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.data.augment import warp
from zoo.errors import ZooError

EXAMPLES = 10_000  # training images that are measured
QUANTILE = 0.998  # the part of them that is within each limit
RIDGE = 1e-3  # part of the mean variance that is added to each variance, so that the covariance can be inverted
BATCH = 500
FAR = "the picture is unlike the training data of the model"


@dataclass(frozen=True)
class Typical:
    """What the logits of training images are like.

    Attributes:
        means: each class's mean, (K, K).
        precision: the inverse of the covariance within the classes, (K, K).
        distance: the limit of the Mahalanobis distance to the nearest class.
        energy: the limit of the energy.
    """

    means: list[list[float]]
    precision: list[list[float]]
    distance: float
    energy: float

    @classmethod
    def of(cls, values: Mapping[str, Any], classes: int, where: str) -> "Typical":
        """Make it again from a card's plain values; a ``ZooError`` if they are not such numbers."""
        try:
            found = cls(**values)
            square = [torch.tensor(rows, dtype=torch.float64) for rows in (found.means, found.precision)]
            limits = torch.tensor([found.distance, found.energy], dtype=torch.float64)
            good = all(t.shape == (classes, classes) and bool(t.isfinite().all()) for t in square)
            if good and limits.shape == (2,) and bool(limits.isfinite().all()):
                return found
        except (TypeError, ValueError, RuntimeError):
            pass
        raise ZooError(
            f"{where} is not a card: typical needs means and precision of {classes} × {classes} numbers, distance "
            f"and energy"
        )

    @classmethod
    def measured(cls, logits: Tensor, labels: Tensor) -> "Typical":
        """From the logits (N, K) of training images and their labels (N,)."""
        logits = logits.double()
        k = logits.shape[1]
        means = torch.stack([logits[labels == c].mean(0) for c in range(k)])
        within = logits - means[labels]
        covariance = within.T @ within / len(within)
        covariance += RIDGE * covariance.diagonal().mean() * torch.eye(k, dtype=torch.float64)
        rounded = [[[float(f"{v:.4g}") for v in row] for row in m.tolist()] for m in (means, covariance.inverse())]
        first = cls(rounded[0], rounded[1], 0.0, 0.0)
        limits = (float(score.quantile(QUANTILE)) for score in (first.distances(logits), energies(logits)))
        return cls(rounded[0], rounded[1], *(float(f"{limit:.4g}") for limit in limits))

    def distances(self, logits: Tensor) -> Tensor:
        """The Mahalanobis distances of logits (N, K) to their nearest class, (N,)."""
        z = logits.double()[:, None] - torch.tensor(self.means, dtype=torch.float64)  # (N, K, K)
        precision = torch.tensor(self.precision, dtype=torch.float64)
        return torch.einsum("nci,ij,ncj->nc", z, precision, z).clamp_min(0).amin(1).sqrt()

    def far(self, logits: Tensor) -> Tensor:
        """Which of the images with these logits (N, K) are unlike the training data, bool (N,)."""
        return (self.distances(logits) > self.distance) | (energies(logits) > self.energy)

    def config(self) -> dict[str, Any]:
        return asdict(self)


def energies(logits: Tensor) -> Tensor:
    """The energies of logits (N, K), (N,); higher for inputs unlike the training data."""
    return -logits.double().logsumexp(1)


@torch.inference_mode()
def measure_typical(model: nn.Module, data: Any) -> dict[str, Any]:
    """A card's ``typical`` for a classifier: from its validation images, which it was not trained on, and if there are
    fewer than ``EXAMPLES``, from training images too. Without validation images, the training images are turned by up
    to 10° and scaled by up to 10 % first, which makes them new to the model.
    """
    images, labels = (
        torch.cat([v, t])[:EXAMPLES] for v, t in zip(*map(data.splits.get, ("val", "train")), strict=True)
    )
    if not len(data.splits["val"][0]):  # the model is surer of images that it has learned than of others like them
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            images = warp(images, 10, 0.1, 0)
    logits = torch.cat([model(data.preprocess.normalised(part)) for part in images.split(BATCH)])
    return Typical.measured(logits, labels).config()
