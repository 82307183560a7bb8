"""Convolutions and bidirectional LSTMs from a spectrogram to the logits of CTC.

Amodei et al. 2016, "Deep Speech 2: end-to-end speech recognition in English and Mandarin", section 3; Graves et al.
2006, "Connectionist temporal classification". Differences: LSTMs instead of simple recurrent layers, layer
normalisation between them instead of batch normalisation over steps, smaller kernels, and fewer units.

The net with "5 convolution layers and 3 fully connected layers" on the lecture's slide about speech is another one,
AlexNet's kind of net on a spectrogram; this family is not it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.arguments import Positive, Probability
from zoo.errors import ZooError


class Both(nn.Module):
    """An LSTM that reads each sequence forwards and another that reads it backwards, from its own last step on.

    The sequences of a batch are turned round within their lengths; so the result of one does not depend on how far it
    is padded, without packing and unpacking the batch.

    Args:
        width: numbers per step.
        hidden: units of each direction.
    """

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.forwards = nn.LSTM(width, hidden, batch_first=True)
        self.backwards = nn.LSTM(width, hidden, batch_first=True)

    def forward(self, x: Tensor, turn: Tensor) -> Tensor:
        """(B, T, width) to (B, T, 2 · hidden); ``turn`` (B, T, 1) is the step from which each step of the turned
        sequence comes.
        """
        ahead, _ = self.forwards(x)
        back, _ = self.backwards(x.gather(1, turn.expand_as(x)))  # (B, T, hidden)
        return torch.cat([ahead, back.gather(1, turn.expand_as(back))], 2)


class ConvLSTM(nn.Module):
    """Two or three strided convolutions over time and frequency, bidirectional LSTMs, and a linear layer.

    Args:
        num_classes: the number of tokens, with the blank as number 0.
        in_features: the number of mel bands.
        channels: the output channels of each convolution.
        time_kernel, band_kernel: the size of each kernel, odd numbers.
        time_stride, band_stride: the stride of each convolution; their product over time is the number of frames for
            each step of the output.
        hidden: the units of each direction of an LSTM.
        depth: the number of bidirectional LSTMs.
        dropout: dropout of the inputs of the LSTMs and of the head.

    Raises:
        ZooError: the lists have different lengths, or a kernel is even.
    """

    def __init__(
        self,
        num_classes: Positive,
        in_features: Positive = 64,
        channels: Sequence[int] = (32, 32),
        time_kernel: Sequence[int] = (5, 5),
        band_kernel: Sequence[int] = (5, 5),
        time_stride: Sequence[int] = (2, 2),
        band_stride: Sequence[int] = (2, 2),
        hidden: Positive = 224,
        depth: Positive = 3,
        dropout: Probability = 0.1,
    ):
        super().__init__()
        sizes = [time_kernel, band_kernel, time_stride, band_stride]
        if not channels or any(len(size) != len(channels) for size in sizes):
            raise ZooError(
                f"model.channels has {len(channels)} convolutions; give model.time_kernel, band_kernel, time_stride "
                f"and band_stride as many numbers"
            )
        if any(k % 2 == 0 or k < 1 for k in (*time_kernel, *band_kernel)):
            raise ZooError(f"model.time_kernel={list(time_kernel)}, band_kernel={list(band_kernel)}: give odd numbers")
        self.time_stride = list(time_stride)
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        before, bands = 1, in_features
        for c, kt, kb, st, sb in zip(channels, *sizes, strict=True):
            self.convs.append(nn.Conv2d(before, c, (kt, kb), (st, sb), (kt // 2, kb // 2), bias=False))
            self.norms.append(nn.BatchNorm2d(c))
            before, bands = c, -(-bands // sb)
        width = before * bands
        self.levels, self.level_norms = nn.ModuleList(), nn.ModuleList()
        for _ in range(depth):
            self.level_norms.append(nn.LayerNorm(width))
            self.levels.append(Both(width, hidden))
            width = 2 * hidden
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_classes)

    def steps(self, frames: Tensor) -> Tensor:
        """The number of output steps for each number of frames."""
        for stride in self.time_stride:
            frames = -(-frames // stride)
        return frames

    def forward(self, x: Tensor, frames: Tensor | None = None) -> Tensor:
        """Spectrograms to logits.

        Args:
            x: float32 (B, T, in_features).
            frames: the number of frames of each, int64 (B,); None means T for all. What follows them has no influence.

        Returns:
            Logits (B, steps(T), num_classes).
        """
        frames = torch.full((len(x),), x.shape[1]) if frames is None else frames
        x = x[:, None]  # (B, 1, T, M)
        for conv, norm, stride in zip(self.convs, self.norms, self.time_stride, strict=True):
            x = norm(conv(x)).clamp(0, 20)  # the clipped ReLU of section 3.1
            frames = -(-frames // stride)
            inside = torch.arange(x.shape[2]) < frames[:, None].cpu()  # (B, T)
            x = x * inside[:, None, :, None].to(x.device)
        x = x.permute(0, 2, 1, 3).flatten(2)  # (B, T, C · M)
        step = torch.arange(x.shape[1])
        last = frames[:, None].cpu() - 1
        turn = torch.where(step <= last, last - step, step)[..., None].to(x.device)  # (B, T, 1)
        for norm, level in zip(self.level_norms, self.levels, strict=True):
            x = level(self.dropout(norm(x)), turn)
        return self.head(self.dropout(x))
