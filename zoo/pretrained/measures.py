"""Compare generated images with real ones, in the features of a trained classifier, the judge.

The Fréchet distance (Heusel et al. 2017) depends on the network that gives the features, so values from different
networks cannot be compared. Therefore the distance between real training and test images is reported with it: it is
the lowest value that a model can be expected to reach.
"""

from http.client import HTTPException
from typing import Any

import torch
from torch import Tensor

from zoo.contracts import classes_of
from zoo.errors import ZooError


class Judge:
    """A shipped classifier that gives features and predicted classes of images with pixels in [0, 1].

    Args:
        name: a name in ``zoo.list_weights()``; the features are the inputs of its head.
    """

    def __init__(self, name: str):
        from zoo.pretrained.loading import load
        from zoo.pretrained.transfer import head_names

        self.name, self.model = name, load(name)
        self.head = head_names(self.model)[0]
        preprocess: Any = self.model.preprocess
        self.mean, self.std = (torch.tensor(v).view(1, -1, 1, 1) for v in (preprocess.mean, preprocess.std))
        self.size = preprocess.image_size

    def check(self, x: Tensor) -> None:
        """Raise a ``ZooError`` if the classifier takes images of another shape than x (B, C, H, W)."""
        wanted = (self.mean.shape[1], self.size, self.size)
        if tuple(x.shape[1:]) != wanted:
            raise ZooError(f"task.judge={self.name} looks at images of {wanted}, but these are {tuple(x.shape[1:])}")

    @torch.no_grad()
    def look(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) to features (B, F), in 64 bits, and predicted classes (B,)."""
        seen: list[Tensor] = []
        hook = self.model.get_submodule(self.head).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            with torch.autocast("cpu", enabled=False):  # in 32 bits, whatever the precision of the run
                logits = self.model((x.cpu() - self.mean) / self.std)
        finally:
            hook.remove()
        return seen[0].flatten(1).double(), logits.argmax(1)


class Inception:
    """The Inception network of published Fréchet distances (Heusel et al. 2017), from torchmetrics. It gives features
    only, no classes.

    Published distances mostly compare 50,000 samples with the training images; fewer samples give higher values.

    Raises:
        ZooError: torch-fidelity is not installed, or the network's weights cannot be downloaded.
    """

    name = "inception"

    def __init__(self):
        from torchmetrics.image.fid import NoTrainInceptionV3

        try:
            self.model = NoTrainInceptionV3("inception-v3-compat", ["2048"])
        except ModuleNotFoundError:
            raise ZooError("task.judge=inception needs torch-fidelity: pip install 'reference-zoo[fid]'") from None
        except (OSError, HTTPException, RuntimeError) as error:  # OSError: also URLError; RuntimeError: wrong checksum
            raise ZooError(f"task.judge=inception: its weights could not be fetched ({error})") from None
        self.model.use_antialias = False  # images are resized as for the published figures

    def check(self, x: Tensor) -> None:
        """Raise a ``ZooError`` if x (B, C, H, W) has neither 1 nor 3 channels."""
        if x.shape[1] not in (1, 3):
            raise ZooError(f"task.judge=inception looks at images of 1 or 3 channels, but these have {x.shape[1]}")

    @torch.no_grad()
    def look(self, x: Tensor) -> tuple[Tensor, None]:
        """Images (B, C, H, W) with pixels in [0, 1] to features (B, 2048), in 64 bits."""
        raw = (x.expand(-1, 3, -1, -1) * 255).round().to(torch.uint8)
        model = self.model.to(x.device)
        with torch.autocast(x.device.type, enabled=False):
            seen = [model(part).cpu().double() for part in raw.split(64)]  # split, as the model enlarges them to 299 px
        return torch.cat(seen), None


def judge_named(name: str) -> Judge | Inception:
    """The judge of that name: a shipped classifier, or ``inception``."""
    return Inception() if name == "inception" else Judge(name)


class Comparison:
    """Collects the features of real images, batch after batch, and of as many samples of a model.

    Args:
        judge: gives the features and classes.
        generator: the random numbers of the samples.
    """

    def __init__(self, judge: Judge | Inception, generator: torch.Generator):
        self.judge, self.generator = judge, generator
        self.real: list[Tensor] = []
        self.made: list[Tensor] = []
        self.classes: list[Tensor] = []  # of the samples, as the judge predicts them
        self.wanted: list[Tensor] = []  # the classes that a conditional model was to draw

    def update(self, x: Tensor, model: Any) -> None:
        """Add a batch of images (B, C, H, W) with pixels in [0, 1], and B samples of the model."""
        self.real.append(self.judge.look(x)[0])
        labels = None
        if classes := classes_of(model):
            labels = torch.arange(len(x)) % classes
            self.wanted.append(labels)
        drawn = model.sample(len(x), self.generator, **({} if labels is None else {"labels": labels}))
        features, classes = self.judge.look(drawn.clamp(0, 1))
        self.made.append(features)
        if classes is not None:
            self.classes.append(classes)

    def fid(self) -> float:
        return frechet_distance(torch.cat(self.real), torch.cat(self.made))

    def coverage(self, num_classes: int) -> dict[str, float]:
        """``modes`` and ``reverse_kl``, see the function ``modes``, and for a conditional model ``agreement``, the
        share of samples whose predicted class is the one asked for. Empty if the judge gives no classes.
        """
        if not self.classes:
            return {}
        classes = torch.cat(self.classes)
        hit, divergence = modes(classes, num_classes)
        found = {"modes": float(hit), "reverse_kl": divergence}
        if self.wanted:
            found["agreement"] = (classes == torch.cat(self.wanted)).double().mean().item()
        return found

    def all(self, data: Any) -> dict[str, float]:
        """All measures: ``fid``, ``fid_floor`` (with training images instead of samples), ``precision``, ``recall``,
        and those of ``coverage``.
        """
        real, made = torch.cat(self.real), torch.cat(self.made)
        training = torch.cat([self.judge.look(part)[0] for part in data.sample(len(real))[0].split(1000)])
        precision, recall = precision_and_recall(real, made)
        return {
            "fid": frechet_distance(real, made), "fid_floor": frechet_distance(real, training),
            "precision": precision, "recall": recall, **self.coverage(data.num_classes),
        }  # fmt: skip


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) for features (N, F) and (M, F) (Heusel et al. 2017, equation 6)."""
    mean, cov_a, cov_b = a.mean(0) - b.mean(0), torch.cov(a.T), torch.cov(b.T)
    root = matrix_root(cov_a)
    # (Σ_a Σ_b)^½ has the same trace as (Σ_a^½ Σ_b Σ_a^½)^½, which is symmetric
    values = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0)
    distance = mean.square().sum() + cov_a.trace() + cov_b.trace() - 2 * values.sqrt().sum()
    return max(distance.item(), 0.0)


def matrix_root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a symmetric matrix without negative eigenvalues."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T


def precision_and_recall(real: Tensor, made: Tensor, k: int = 3) -> tuple[float, float]:
    """Precision, the share of samples that are at least as near to some real image as that image's k-th nearest real
    neighbour, and recall, the same with samples and real images exchanged (Kynkäänniemi et al. 2019, equations 1, 2).

    Args:
        real, made: features of real images (N, F) and of samples (M, F).
        k: which neighbour.
    """

    def covered(points: Tensor, by: Tensor) -> float:
        radius = torch.cat([torch.cdist(part, by).kthvalue(k + 1, 1).values for part in by.split(1000)])
        inside = [(torch.cdist(part, by) <= radius).any(1) for part in points.split(1000)]
        return torch.cat(inside).double().mean().item()

    real, made = real.float(), made.float()
    return covered(made, real), covered(real, made)


def modes(classes: Tensor, num_classes: int) -> tuple[int, float]:
    """How well samples cover the classes: the number of classes with at least 0.1 % of the samples, and
    KL(class shares ‖ equal shares) in nats.

    Args:
        classes: the predicted class of each sample, (N,).
    """
    shares = torch.bincount(classes, minlength=num_classes).double() / len(classes)
    present = shares[shares > 0]
    return int((shares >= 1e-3).sum()), (present * (present * num_classes).log()).sum().item()
