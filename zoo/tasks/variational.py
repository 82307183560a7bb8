"""Variational autoencoders: maximise a lower bound of log p(x) (lecture 16.7), and estimate log p(x) in the test."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo import contracts
from zoo.arguments import Inherited
from zoo.contracts import require
from zoo.errors import ZooError
from zoo.tasks.task import Mean, Task


class Variational(Task):
    """Maximise E_q[log p(x|z)] − β KL(q(z|x) ‖ p(z)) (Kingma & Welling 2014, equation 3), in nats per image.

    Evaluation measures ``loss``, the negative bound with β = 1 and one latent code per image, and its two parts
    ``reconstruction`` and ``kl``. With ``nll_samples`` = K > 0 the test also measures ``nll``, an estimate of −log p(x)
    from K importance samples per image (Burda et al. 2016, equation 8); it is closer to the true value than ``loss``,
    so do not compare the two. Evaluation draws codes from a fixed seed, so measuring again gives the same values.

    Args:
        model: a model with ``posterior`` and ``logits``, as ``zoo.models.vae.VAE``.
        beta: β (Higgins et al. 2017).
        samples: the number k of codes per image in each update. With k > 1 training maximises the tighter
            importance-weighted bound log (1/k) Σ p(x, z)/q(z|x), and β must be 1.
        nll_samples: the number K of codes per image for ``nll`` in the test; 0 leaves ``nll`` out.
        shared: see ``Task``.
    """

    calls_forward = False
    calls = ("posterior", "logits")

    def __init__(
        self,
        model: nn.Module,
        beta: float = 1.0,
        samples: int = 1,
        nll_samples: int = 0,
        **shared: Inherited,
    ):
        super().__init__(model, **shared)
        if samples < 1 or (samples > 1 and beta != 1):
            raise ZooError(
                f"task.samples={samples}, task.beta={beta}: give 1 sample or more, and beta=1 for more than one"
            )
        self.beta, self.samples, self.nll_samples = beta, samples, nll_samples
        self.measures.update({name: Mean() for name in ("loss", "reconstruction", "kl", "nll")})
        self.generator, self.importance_generator = torch.Generator(), torch.Generator()

    def check_output(self, output: Any, x: Tensor, target: Any) -> None:
        """Raise a ``ZooError`` if the model is no variational autoencoder, or pixels are not in [0, 1]."""
        require(self.model, contracts.Variational, "task=variational", "choose model=vae")
        if not (x.min() >= 0 and x.max() <= 1):
            raise ZooError(
                "task=variational takes pixels in [0, 1]: set data.mean=[0.0] and data.std=[1.0], a value per channel"
            )
        if self.nll_samples and not ((x == 0) | (x == 1)).all():
            raise ZooError(
                "task.nll_samples needs pixels that are 0 or 1, for which p(x) is defined: set data.binarise=fixed"
            )

    def corrupted(self, x: Tensor) -> Tensor | None:
        """None: training does not corrupt images."""
        return None

    # --- from a batch to a loss and metrics -----------------------------------------------------------------------

    def training_loss(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, _ = batch
        model: Any = self.model
        mean, log_variance = (t.float() for t in model.posterior(x))
        if self.samples == 1:
            z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
            reconstruction, divergence = log_likelihood(model, x, z).mean(), kl(mean, log_variance).mean()
            loss = self.beta * divergence - reconstruction
        else:
            loss = -importance(model, x, mean, log_variance, self.samples).mean()
        self.log_training(loss=loss)
        return loss

    def start_measuring(self, part: str) -> None:
        self.generator.manual_seed(0)
        self.importance_generator.manual_seed(1)

    def measure(self, batch: tuple[Tensor, Tensor], part: str) -> None:
        x, _ = batch
        model: Any = self.model
        mean, log_variance = (t.float() for t in model.posterior(x))
        noise = torch.randn(mean.shape, generator=self.generator).to(mean.device)
        reconstruction = -log_likelihood(model, x, mean + (log_variance / 2).exp() * noise).mean()
        divergence = kl(mean, log_variance).mean()
        found = {"loss": reconstruction + divergence, "reconstruction": reconstruction, "kl": divergence}
        if part == "test" and self.nll_samples:
            k = self.nll_samples
            found["nll"] = -importance(model, x, mean, log_variance, k, self.importance_generator).mean()
        for name, value in found.items():
            self.measures[name].update(value, len(x))  # type: ignore[operator]


def log_likelihood(model: Any, x: Tensor, z: Tensor) -> Tensor:
    """log p(x|z) in nats: images (B, C, H, W), codes (k·B, latent), k times the whole batch -> (k·B,)."""
    logits = model.logits(z).float().flatten(1)
    target = x.flatten(1).repeat(len(z) // len(x), 1)
    return -F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1)


def kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(q(z|x) ‖ N(0, I)) in nats: (B, latent) each -> (B,) (Kingma & Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def importance(
    model: Any, x: Tensor, mean: Tensor, log_variance: Tensor, k: int, generator: torch.Generator | None = None
) -> Tensor:
    """log (1/k) Σ_i p(x, z_i) / q(z_i|x) with z_i ~ q(z|x): (B,), in nats; in evaluation by chunks, to save memory."""
    b, latent = mean.shape
    at_once = max(1, min(k, 2**13 // b)) if not torch.is_grad_enabled() else k
    total: Tensor | None = None
    for start in range(0, k, at_once):
        n = min(at_once, k - start)
        noise = torch.randn(n, b, latent, generator=generator).to(mean.device)
        z = mean + (log_variance / 2).exp() * noise  # (n, B, latent)
        # log p(z) − log q(z|x), whose constants cancel
        ratio = 0.5 * (noise.square() + log_variance - z.square()).sum(2)  # (n, B)
        weights = log_likelihood(model, x, z.flatten(0, 1)).view(n, b) + ratio
        part = weights.logsumexp(0)
        total = part if total is None else torch.logaddexp(total, part)
    assert total is not None
    return total - math.log(k)
