"""Images as sequences: a recurrent network reads them row by row, or pixel by pixel (Le et al. 2015)."""

from typing import Literal

import torch
from torch import Tensor, nn

from zoo.arguments import Positive, Probability
from zoo.errors import ZooError
from zoo.models.recurrent import Recurrent


class ScanImage(nn.Module):
    """A recurrent classifier that reads an image as a sequence of rows or pixels.

    Args:
        num_classes: size of the output; 0 gives the last step's features.
        in_channels, image_size: shape of the images.
        order: "rows": one row per step, image_size · in_channels numbers; "pixels": one pixel per step, row by row;
            "permuted": the pixels in a random order, which is the same for all images (its seed is fixed).
        cell, hidden, depth, bidirectional, dropout, orthogonal, forget_bias, chrono, backend: see ``Recurrent``.
    """

    heads = ("net.head",)

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int = 28,
        order: Literal["rows", "pixels", "permuted"] = "rows",
        cell: Literal["rnn", "gru", "lstm"] = "lstm",
        hidden: Positive = 128,
        depth: Positive = 1,
        bidirectional: bool = False,
        dropout: Probability = 0.0,
        orthogonal: bool = False,
        forget_bias: float | None = None,
        chrono: int | None = None,
        backend: Literal["torch", "reference"] = "torch",
    ):
        super().__init__()
        if order not in ("rows", "pixels", "permuted"):
            raise ZooError(f"order={order} is unknown; valid: rows, pixels, permuted")
        self.order, self.image_size = order, image_size
        pixels = torch.randperm(image_size**2, generator=torch.Generator().manual_seed(0))
        self.register_buffer("permutation", pixels, persistent=False)
        self.net = Recurrent(
            num_classes,
            in_features=in_channels * (image_size if order == "rows" else 1),
            cell=cell,
            hidden=hidden,
            depth=depth,
            read="last",
            bidirectional=bidirectional,
            dropout=dropout,
            orthogonal=orthogonal,
            forget_bias=forget_bias,
            chrono=chrono,
            backend=backend,
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.sequence(x))  # (B, num_classes)

    def sequence(self, x: Tensor) -> Tensor:
        """Images as sequences: (B, C, H, W) -> (B, H, W·C) for rows, or (B, H·W, C) for pixels."""
        rows = x.permute(0, 2, 3, 1).contiguous()  # (B, H, W, C)
        if self.order == "rows":
            return rows.flatten(2)
        pixels = rows.flatten(1, 2)
        return pixels[:, self.permutation] if self.order == "permuted" else pixels  # type: ignore[index]
