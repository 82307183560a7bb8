"""MADE: an autoencoder with masked weights that models a distribution over images (Germain et al. 2015; lecture 16.7).

p(x) = Π_d p(x_d | x_<d), for some ordering of the pixels. A hidden unit of degree m depends only on the first m pixels
of the ordering, and the output for pixel d only on hidden units of degrees below d, so one forward pass gives all
conditional probabilities. With several orderings the distribution is their mixture with equal weights.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.arguments import Positive, Seed
from zoo.layers import make_activation


def bernoulli(logits: Tensor, x: Tensor) -> Tensor:
    """log p(x) in nats of independent binary pixels: log-odds and images, (B, …) each, to (B,)."""
    return -F.binary_cross_entropy_with_logits(logits.float(), x, reduction="none").flatten(1).sum(1)


class MADE(nn.Module):
    """A distribution over images of binary pixels.

    Args:
        in_channels, image_size: D = in_channels × image_size² pixels.
        hidden: widths of the hidden layers.
        orderings: number of pixel orderings, each with its own degrees of the hidden units; the first is row by row.
            Each training batch uses a random one, evaluation averages p(x) over all, and each sample is drawn in a
            random one.
        activation: activation of the hidden layers.
        seed: seed of the orderings and degrees; trained weights are valid only with the seed of their training.
    """

    def __init__(
        self,
        in_channels: int = 1,
        image_size: int = 28,
        hidden: Sequence[Positive] = (8000,),
        orderings: Positive = 1,
        activation: str = "relu",
        seed: Seed = 0,
    ):
        super().__init__()
        self.shape, self.orderings = (in_channels, image_size, image_size), orderings
        widths = [in_channels * image_size**2, *hidden]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.head = nn.Linear(widths[-1], widths[0])
        self.activation = make_activation(activation)
        generator = torch.Generator().manual_seed(seed)
        # the position of each pixel in each ordering, 1 to D, and the degree of each hidden unit, 1 to D − 1
        d = widths[0]
        places = [torch.arange(1, d + 1)]
        places += [torch.randperm(d, generator=generator) + 1 for _ in range(orderings - 1)]
        # not buffers, since weight averaging would average them too
        self.places = torch.stack(places)  # (orderings, D)
        self.degrees: list[Tensor] = []
        for i, width in enumerate(hidden):
            # at least the smallest degree of the layer before: a unit below it would have no inputs
            least = self.degrees[i - 1].min(1, keepdim=True).values if i else torch.tensor([[1]])
            drawn = torch.rand(orderings, width, generator=generator)
            self.degrees.append((least + drawn * (d - least)).long().clamp(max=d - 1))  # (orderings, width)

    def masked(self, ordering: int = 0) -> list[tuple[Tensor, Tensor]]:
        """The masked matrix and the bias of every hidden layer and of the head, for one ordering."""
        places = self.places[ordering].to(self.head.weight.device)
        found, seen = [], places
        for layer, each in zip(self.layers, self.degrees, strict=True):
            degrees = each[ordering].to(places.device)
            assert isinstance(layer, nn.Linear)
            found.append((layer.weight * (degrees[:, None] >= seen), layer.bias))
            seen = degrees
        return [*found, (self.head.weight * (places[:, None] > seen), self.head.bias)]

    def logits(self, x: Tensor, ordering: int = 0) -> Tensor:
        """The log-odds of each pixel given those before it in an ordering: (B, C, H, W) to the same shape."""
        *layers, (weight, bias) = self.masked(ordering)
        h = x.flatten(1)
        for w, b in layers:
            h = self.activation(F.linear(h, w, b))  # (B, width)
        return F.linear(h, weight, bias).unflatten(1, self.shape)

    def forward(self, x: Tensor) -> Tensor:
        """The log-odds in the first ordering: images (B, C, H, W) to the same shape."""
        return self.logits(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats: images of 0 and 1, (B, C, H, W), to (B,). In training mode for one random ordering only."""
        if self.training:
            return bernoulli(self.logits(x, int(torch.randint(self.orderings, ()))), x)
        each = torch.stack([bernoulli(self.logits(x, i), x) for i in range(self.orderings)])  # (orderings, B)
        return each.logsumexp(0) - math.log(self.orderings)

    def noise(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Uniform random numbers for n samples: one per pixel, and with several orderings one more that selects the
        ordering: (n, D) or (n, D + 1).
        """
        return torch.rand(n, self.head.out_features + (self.orderings > 1), generator=generator)

    @torch.no_grad()
    def generate(self, noise: Tensor, progress: Callable[[int, int], None] | None = None) -> Tensor:
        """Images of 0 and 1, each drawn pixel by pixel in one of the orderings: ``noise`` (B, …) to (B, C, H, W).

        Args:
            progress: called after every ``image_size`` pixels, with the number of pixels done and the total number.
        """
        pixels, last = noise.split([self.head.out_features, int(self.orderings > 1)], 1)
        chosen = (last.sum(1) * self.orderings).long()  # (B,); 0 with a single ordering
        x = torch.zeros_like(pixels)
        orderings = chosen.unique().tolist()
        for i, ordering in enumerate(orderings):

            def of_all(done: int, total: int, i: int = i) -> None:
                if progress:
                    progress(i * total + done, len(orderings) * total)

            x[chosen == ordering] = self.draw(pixels[chosen == ordering], ordering, of_all)
        return x.unflatten(1, self.shape)

    def draw(self, noise: Tensor, ordering: int, progress: Callable[[int, int], None]) -> Tensor:
        """Draw pixels in one ordering: uniform random numbers (B, D), one per pixel, to pixels 0 or 1, (B, D)."""
        (first, bias), *layers, (weight, last) = self.masked(ordering)
        x = torch.zeros_like(noise)
        before = bias.repeat(len(x), 1)  # first pre-activations (B, width), to which each drawn pixel adds its column
        for done, d in enumerate(self.places[ordering].argsort().tolist(), 1):
            h = self.activation(before)
            for w, b in layers:
                h = self.activation(F.linear(h, w, b))
            x[:, d] = (noise[:, d] < (h @ weight[d] + last[d]).sigmoid()).to(x.dtype)
            before += x[:, d, None] * first[:, d]
            if done % self.shape[2] == 0:
                progress(done, x.shape[1])
        return x

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Samples: images of 0 and 1, (n, C, H, W)."""
        return self.generate(self.noise(n, generator).to(self.head.weight.device))
