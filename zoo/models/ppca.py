"""Probabilistic principal component analysis (Tipping & Bishop 1999; lecture 16.7).

An image is x = W z + μ + ε, with z from N(0, I) and noise ε from N(0, σ² I), so x is Gaussian with mean μ and
covariance C = W Wᵀ + σ² I. The maximum-likelihood parameters have a closed form; EM converges to them.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from zoo.arguments import Positive, Seed
from zoo.errors import ZooError


def centred(x: Tensor) -> tuple[Tensor, Iterator[Tensor]]:
    """The mean (D,) of images (N, C, H, W) in 64 bits, and an iterator over the flattened images minus the mean.

    The iterator gives at most 1000 images at a time, since 64 bits take much memory.
    """
    flat = x.flatten(1)
    mean = flat.mean(0, dtype=torch.float64)
    return mean, (part - mean for part in flat.split(1000))


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (D,) and covariance (D, D) of images (N, C, H, W), in 64 bits."""
    mean, parts = centred(x)
    products = mean.new_zeros(len(mean), len(mean))
    for part in parts:
        products += part.T @ part
    return mean, products / len(x)


class PPCA(nn.Module):
    """A Gaussian over images whose covariance has few principal directions, with a linear encoder and decoder.

    Args:
        in_channels, image_size: shape of the images, D = in_channels × image_size² numbers.
        code: M, the number of directions.
        closed_form: start from the maximum-likelihood parameters of the training data; False starts from a random W,
            for EM.
        seed: seed of the random W.
    """

    init_on_all = True  # init_from_data wants every training image

    def __init__(
        self, in_channels: int = 1, image_size: int = 28, code: Positive = 32, closed_form: bool = True, seed: Seed = 0
    ):
        super().__init__()
        self.shape, self.closed_form, self.latent = (in_channels, image_size, image_size), closed_form, code
        d = in_channels * image_size**2
        if not 0 < code < d:
            raise ZooError(f"model.code={code} is not valid: an image has {d} numbers; give 1 to {d - 1}")
        self.weight = nn.Parameter(torch.randn(d, code, generator=torch.Generator().manual_seed(seed)) / d**0.5)
        self.mean = nn.Parameter(torch.zeros(d))
        self.log_variance = nn.Parameter(torch.zeros(()))  # log σ²

    # --- inference ------------------------------------------------------------------------------------------------

    def inner(self) -> Tensor:
        """The matrix WᵀW + σ² I, (code, code), in 64 bits. The paper calls it M; here M is the number of directions."""
        w = self.weight.double()
        return w.T @ w + self.log_variance.double().exp() * torch.eye(w.shape[1], dtype=w.dtype, device=w.device)

    def encode(self, x: Tensor) -> Tensor:
        """The mean of z given x, (WᵀW + σ² I)⁻¹ Wᵀ (x − μ) (equation 9): images (B, C, H, W) to codes (B, code)."""
        centred = x.flatten(1).double() - self.mean.double()
        return torch.linalg.solve(self.inner(), self.weight.double().T @ centred.T).T.to(x.dtype)

    def decode(self, z: Tensor) -> Tensor:
        """W z + μ: codes (B, code) to images (B, C, H, W)."""
        return (z @ self.weight.T + self.mean).unflatten(1, self.shape)

    def forward(self, x: Tensor) -> Tensor:
        """The reconstruction W E[z | x] + μ, (B, C, H, W). It is closer to μ than PCA's projection, since the model
        attributes a part of x − μ to noise.
        """
        return self.decode(self.encode(x))

    def project(self, x: Tensor) -> Tensor:
        """PCA's reconstruction: the orthogonal projection U Uᵀ (x − μ) + μ, the nearest point of the plane, where the
        columns of U are W's left singular vectors. Those whose singular value is 0 are left out; pixels that are always
        black can cause some.
        """
        w, mean = self.weight.double(), self.mean.double()
        u, lengths, _ = torch.linalg.svd(w, full_matrices=False)
        u = u * (lengths > lengths.max() * 1e-6)  # (D, code); 1e-6 is about the precision of 32 bits
        near = (x.flatten(1).double() - mean) @ u @ u.T + mean
        return near.to(x.dtype).view_as(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats (equation 2): images (B, C, H, W) to (B,), computed in 64 bits.

        Uses the Woodbury identity for C⁻¹ and the determinant lemma for det C, which need no D × D matrix.
        """
        d, m = self.weight.shape
        variance = self.log_variance.double().exp()
        centred = x.flatten(1).double() - self.mean.double()  # (B, D)
        inner = self.inner()
        projected = centred @ self.weight.double()  # (B, M)
        inside = (projected * torch.linalg.solve(inner, projected.T).T).sum(1)
        distance = (centred.square().sum(1) - inside) / variance
        log_det = torch.linalg.slogdet(inner).logabsdet + (d - m) * self.log_variance.double()
        return -0.5 * (d * math.log(2 * math.pi) + log_det + distance)

    def noise(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Random numbers for n samples: z and ε / σ, (n, M + D)."""
        return torch.randn(n, sum(self.weight.shape), generator=generator)

    def generate(self, noise: Tensor) -> Tensor:
        """W z + μ + ε: noise (B, M + D) to images (B, C, H, W)."""
        z, epsilon = noise.split([self.weight.shape[1], self.weight.shape[0]], 1)
        return self.decode(z) + (self.log_variance / 2).exp() * epsilon.unflatten(1, self.shape)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Images (n, C, H, W) from the model."""
        return self.generate(self.noise(n, generator).to(self.mean.device))

    @torch.no_grad()
    def fill(self, x: Tensor, known: Tensor) -> Tensor:
        """The expected values of missing pixels given the known ones, exactly: p(x_missing | x_known) is Gaussian.

        Args:
            x: images (B, C, H, W); the values of missing pixels are ignored.
            known: which pixels are known: bool, of the same shape.
        """
        w, mean, variance = self.weight.double(), self.mean.double(), self.log_variance.double().exp()
        flat, seen = x.flatten(1).double(), known.flatten(1).double()
        centred = (flat - mean) * seen  # (B, D), 0 where unknown
        # the mean of z given the known pixels only: (Σ_known w wᵀ + σ² I) z = Σ_known w (x − μ)
        inner = torch.einsum("bd,dm,dn->bmn", seen, w, w) + variance * torch.eye(
            w.shape[1], dtype=w.dtype, device=w.device
        )
        z = torch.linalg.solve(inner, centred @ w)  # (B, M)
        filled = z @ w.T + mean
        return torch.where(known, x, filled.to(x.dtype).view_as(x))

    # --- learning -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def init_from_data(self, x: Tensor) -> None:
        """Set the maximum-likelihood parameters for these images or, for EM, only their mean and variance."""
        if self.closed_form:
            return self.fit(x)
        mean, parts = centred(x)
        total = torch.stack([part.square().sum() for part in parts]).sum()
        self.mean.copy_(mean)
        self.log_variance.copy_((total / x.numel()).log())

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Set the maximum-likelihood parameters (equations 7 and 8): W = U (Λ − σ² I)^½, with the M greatest
        eigenvalues Λ of the sample covariance and their eigenvectors U, and σ² the mean of the other eigenvalues.
        """
        mean, covariance = moments(x)
        m = self.weight.shape[1]
        values, vectors = torch.linalg.eigh(covariance)  # ascending
        variance = values[:-m].mean().clamp(min=1e-12)
        self.mean.copy_(mean)
        self.log_variance.copy_(variance.log())
        self.weight.copy_(vectors[:, -m:].flip(1) * (values[-m:].flip(0) - variance).clamp(min=0).sqrt())

    @torch.no_grad()
    def statistics(self, x: Tensor) -> tuple[Tensor, ...]:
        """The E step (equations 25 and 26): sums over images that the M step needs; add them over all batches.

        Returns:
            Σ (x − μ) E[z]ᵀ (D, M), Σ E[z zᵀ] (M, M), Σ ‖x − μ‖² and the number of images, in 64 bits.
        """
        centred = x.flatten(1).double() - self.mean.double()
        inner = self.inner()
        z = torch.linalg.solve(inner, self.weight.double().T @ centred.T)  # (M, B)
        spread = self.log_variance.double().exp() * torch.linalg.inv(inner)
        return centred.T @ z.T, len(x) * spread + z @ z.T, centred.square().sum(), centred.new_tensor(float(len(x)))

    @torch.no_grad()
    def update(self, xz: Tensor, zz: Tensor, square: Tensor, n: Tensor) -> None:
        """The M step (equations 27 and 28) from the sums of ``statistics``; it never lowers the images' likelihood."""
        w = torch.linalg.solve(zz, xz.T).T  # (D, M)
        variance = (square - 2 * (xz * w).sum() + (zz * (w.T @ w)).sum()) / (n * len(w))
        self.weight.copy_(w)
        self.log_variance.copy_(variance.clamp(min=1e-12).log())
