"""Reconstruction (lecture 16.7): an autoencoder learns to output its input, clean even if the input is corrupted."""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning import Trainer
from torch import Tensor, nn

from zoo.arguments import Inherited, NonNegative
from zoo.contracts import Autoencoder, Encoder, Layered, require
from zoo.errors import ZooError
from zoo.models.ppca import PPCA
from zoo.tasks.task import Mean, Task

MOST_PIXELS = 4096  # the most numbers C·H·W of an image for which the test computes principal components


class Reconstruct(Task):
    """Minimise the reconstruction error per pixel; labels are ignored.

    Evaluation uses clean inputs: ``loss`` is the mean squared error per pixel, whatever loss is minimised. The test
    also measures ``pca_loss`` for comparison: the error of a reconstruction from as many principal components of the
    training images as the code has numbers. It is left out if the model has no ``encode``, if the code has at least as
    many numbers as the image, C·H·W, or if the image has more than ``MOST_PIXELS``.

    Args:
        model: maps images (B, C, H, W) to images of the same shape; the penalties on the code need its ``encode``.
        loss: "mse", or "bce", the cross-entropy of pixels in [0, 1] and outputs in (0, 1).
        corruption: what is done to the inputs in training: "none"; "gaussian" adds noise of standard deviation
            ``amount``; "masking" sets a fraction ``amount`` of the pixels to 0; "salt_pepper" sets a fraction
            ``amount`` to 0 or 1 with equal probability (Vincent et al. 2010, section 3.3).
        amount: see corruption.
        sparsity: λ of the penalty λ Σ_j KL(ρ ‖ ρ̂_j), where ρ̂_j is the mean activation of unit j over the batch, for
            a code in [0, 1].
        rho: ρ, the desired mean activation of each unit.
        contraction: λ of the penalty λ ‖∂ code / ∂ x‖² (Rifai et al. 2011), by Hutchinson's estimate with one random
            vector per image.
        layerwise: train one layer after the other, each for an equal share of ``trainer.max_epochs``. Layer k learns to
            reconstruct its clean input, the output of the trained layers before it for clean images, from a corrupted
            copy (stacked denoising autoencoders, Vincent et al. 2010, section 3.5). From the second layer on, the loss
            is "mse" and the reconstruction is linear. Evaluation measures the whole network, so use select=last.
        shared: see ``Task``.
    """

    calls_forward = False

    def __init__(
        self,
        model: nn.Module,
        loss: Literal["mse", "bce"] = "mse",
        corruption: Literal["none", "gaussian", "masking", "salt_pepper"] = "none",
        amount: NonNegative = 0.0,
        sparsity: float = 0.0,
        rho: float = 0.05,
        contraction: float = 0.0,
        layerwise: bool = False,
        **shared: Inherited,
    ):
        super().__init__(model, **shared)
        if loss not in ("mse", "bce"):
            raise ZooError(f"task.loss={loss} is unknown; valid: mse, bce")
        if (corruption != "none") != (amount > 0) or (corruption != "gaussian" and not 0 <= amount <= 1):
            raise ZooError(
                f"task.corruption={corruption}, task.amount={amount}: masking and salt_pepper need an amount above "
                "0 and up to 1, gaussian one above 0, and none an amount of 0"
            )
        if layerwise and (sparsity or contraction or self.l1 or self.l2 or corruption == "salt_pepper"):
            raise ZooError("task.layerwise excludes sparsity, contraction, l1, l2 and salt_pepper: leave them out")
        self.loss, self.corruption, self.amount = loss, corruption, amount
        self.sparsity, self.rho, self.contraction, self.layerwise = sparsity, rho, contraction, layerwise
        if isinstance(model, Autoencoder):
            self.calls = ("forward", "encode", "decode")
        if layerwise:
            self.calls = ()  # ``layer`` builds new modules in each update, which would be compiled each time
        elif contraction:
            self.calls = ("forward", "decode")  # torch.compile lacks the second derivatives of ``encode`` needed here
        self.measures.update({"loss": Mean(), "pca_loss": Mean()})
        self.project: Callable[[Tensor], Tensor] | None = None  # the test's reconstruction by principal components

    def check_output(self, output: Any, x: Tensor, target: Any) -> None:
        """Raise a ``ZooError`` if the output is not an image, or a penalty lacks the code it needs; called once."""
        if not isinstance(output, Tensor) or output.shape != x.shape:
            raise ZooError(
                "task=reconstruct needs a model whose output is an image, such as model=autoencoder; for a classifier: "
                "task=classify"
            )
        if self.sparsity or self.contraction:
            require(self.model, Autoencoder, "task.sparsity or task.contraction", "choose a model such as autoencoder")
        if self.layerwise:
            require(self.model, Layered, "task.layerwise", "choose model=autoencoder")
        inside, given = x.min() >= 0 and x.max() <= 1, output.min() >= 0 and output.max() <= 1
        if not inside and (given or self.loss == "bce" or self.corruption in ("masking", "salt_pepper")):
            raise ZooError(
                "the model's outputs, task.loss=bce, and masking or salt_pepper are for pixels in [0, 1]: set "
                "data.mean=[0.0] and data.std=[1.0] (one value per channel)"
            )
        if self.sparsity:
            with torch.no_grad():
                code = self.model.encode(x)  # type: ignore[operator]
            if code.min() < 0 or code.max() > 1:
                raise ZooError("task.sparsity is for a code in [0, 1]: set model.code_activation=sigmoid")

    def corrupted(self, x: Tensor) -> Tensor | None:
        """Clean images (B, C, H, W) as training corrupts them, of the same shape; None without corruption."""
        return None if self.corruption == "none" else corrupt(x, self.corruption, self.amount)

    # --- from a batch to a loss and metrics -----------------------------------------------------------------------

    def training_loss(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, _ = batch
        if self.layerwise:
            return self.layer_step(x)
        seen = corrupt(x, self.corruption, self.amount)
        if self.contraction or self.sparsity:
            seen.requires_grad_(bool(self.contraction))
            code = self.model.encode(seen)  # type: ignore[operator]
            output = self.model.decode(code)  # type: ignore[operator]
        else:
            code, output = None, self.model(seen)
        output = output.float()
        loss = F.mse_loss(output, x) if self.loss == "mse" else cross_entropy(output, x)
        self.log_training(loss=loss)
        total = loss
        if code is not None and self.sparsity:
            total = total + self.sparsity * sparseness(code.float(), self.rho)
        if code is not None and self.contraction:
            total = total + self.contraction * jacobian(code, seen)
        return total

    def check_run(self, trainer: Trainer, data: Any) -> None:
        super().check_run(trainer, data)
        if not self.layerwise:
            return
        epochs, depth = trainer.max_epochs or -1, self.model.depth()  # type: ignore[operator]
        if trainer.world_size > 1 or trainer.max_steps > 0:
            raise ZooError(
                "task.layerwise trains in one process, for a number of epochs: leave trainer.max_steps at -1"
            )
        if 1 < epochs < depth or epochs < 1:  # a single epoch is allowed, for a quick try
            raise ZooError(f"task.layerwise trains {depth} layers: set trainer.max_epochs to a multiple of {depth}")

    def layer_step(self, x: Tensor) -> Tensor:
        """The loss of the layer that is trained in this epoch, ()."""
        i = self.current_epoch * self.model.depth() // self.trainer.max_epochs  # type: ignore[operator]
        before, layer, back = self.model.layer(i)  # type: ignore[operator]
        with torch.no_grad():
            wanted = before(x.flatten(1)).float()  # (B, units of the layer before)
        code = layer(corrupt(wanted, self.corruption, self.amount))
        if i == 0:
            output = back(code).float()
            loss = F.mse_loss(output, wanted) if self.loss == "mse" else cross_entropy(output, wanted)
        else:  # a linear reconstruction: an inactive ReLU would get no gradient
            loss = F.mse_loss(back[0](code).float(), wanted)
        self.log_training(**{f"loss_layer{i + 1}": loss})
        return loss

    def measure(self, batch: tuple[Tensor, Tensor], part: str) -> None:
        x, _ = batch
        output = self.model(x).float()
        self.measures["loss"].update(F.mse_loss(output, x), len(x))  # type: ignore[operator]
        if part == "test" and self.project is not None:
            self.measures["pca_loss"].update(F.mse_loss(self.project(x), x), len(x))  # type: ignore[operator]

    def on_test_start(self) -> None:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if data is None or not isinstance(self.model, Encoder):
            return
        x = data.sample(1)[0]
        with torch.no_grad():
            size = self.model.encode(x.to(self.device)).numel()
        if size < x.numel() <= MOST_PIXELS:
            pca = PPCA(x.shape[1], x.shape[-1], size)
            pca.fit(data.sample(10**9)[0])
            self.project = pca.to(self.device).project


def cross_entropy(output: Tensor, x: Tensor) -> Tensor:
    """The mean cross-entropy in nats of pixels x in [0, 1] and outputs in (0, 1), in 32 bits even under autocast."""
    with torch.autocast(x.device.type, enabled=False):
        return F.binary_cross_entropy(output.float(), x.float())


def corrupt(x: Tensor, kind: str, amount: float) -> Tensor:
    """A corrupted copy of images, of the same shape; ``kind`` and ``amount`` as in ``Reconstruct``."""
    if kind == "gaussian":
        return x + amount * torch.randn_like(x)
    if kind == "masking":
        return x * (torch.rand_like(x) >= amount)
    if kind == "salt_pepper":
        hit, coin = torch.rand_like(x) < amount, torch.rand_like(x) < 0.5
        return torch.where(hit, coin.to(x.dtype), x)
    return x.clone()


def sparseness(code: Tensor, rho: float) -> Tensor:
    """Σ_j KL(ρ ‖ ρ̂_j) between Bernoulli variables; ρ̂_j is the mean of unit j over the batch: (B, M) -> ()."""
    mean = code.mean(0).clamp(1e-6, 1 - 1e-6)
    target = torch.full_like(mean, rho)
    return (target * (target / mean).log() + (1 - target) * ((1 - target) / (1 - mean)).log()).sum()


def jacobian(code: Tensor, x: Tensor) -> Tensor:
    """An unbiased estimate of ‖∂ code / ∂ x‖² (Frobenius), mean over the batch: it equals E ‖vᵀ J‖² for v ~ N(0, I)."""
    v = torch.randn_like(code)
    (products,) = torch.autograd.grad(code, x, v, create_graph=True)
    return products.flatten(1).square().sum(1).mean()
