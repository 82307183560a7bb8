"""EfficientNet-Lite0: a small network for ImageNet, here for the features of pictures.

Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019 (table 1), in the Lite form
of Google's 2020 release: no squeeze-and-excitation, ReLU6 in place of Swish, and a stem and a head that are not scaled.
Blocks are inverted residuals (Sandler et al. 2018, section 3.3).

Convolutions pad as TensorFlow does, with the odd pixel at the right and the bottom, so that the published weights fit.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.arguments import Positive, Probability
from zoo.layers import make_head


class Stage(NamedTuple):
    """A row of table 1: blocks of one kind, the first of which has the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16), Stage(2, 3, 2, 6, 24), Stage(2, 5, 2, 6, 40), Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112), Stage(4, 5, 2, 6, 192), Stage(1, 3, 1, 6, 320),
)  # fmt: skip


class SameConv(nn.Conv2d):
    """A convolution without bias whose output has ⌈side / stride⌉ pixels."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(in_channels, out_channels, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, D, H / stride, W / stride)
        k, s = self.kernel_size[0], self.stride[0]
        height, width = (max((-(-side // s) - 1) * s + k - side, 0) for side in x.shape[2:])
        if height or width:
            x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(x)


def conv_bn(in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = SameConv(in_channels, out_channels, kernel, stride, groups)
    return [conv, nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.01)]


class Block(nn.Module):
    """An inverted residual: 1×1 to more channels, k×k on each channel alone, 1×1 to fewer channels without ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = in_channels * expansion
        expand = [*conv_bn(in_channels, wide, 1), nn.ReLU6()] if expansion > 1 else []
        depthwise = [*conv_bn(wide, wide, kernel, stride, groups=wide), nn.ReLU6()]
        self.layers = nn.Sequential(*expand, *depthwise, *conv_bn(wide, out_channels, 1))
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0.

    Args:
        num_classes: size of the output; 0 gives the 1,280 features before the head.
        in_channels: channels of an image.
        dropout: dropout before the head.
    """

    def __init__(self, num_classes: int = 1000, in_channels: Positive = 3, dropout: Probability = 0.2):
        super().__init__()
        self.stem = nn.Sequential(*conv_bn(in_channels, 32, 3, stride=2), nn.ReLU6())
        blocks, channels = [], 32
        for stage in STAGES:
            for i in range(stage.repeats):
                stride = stage.stride if i == 0 else 1
                blocks.append(Block(channels, stage.channels, stage.kernel, stride, stage.expansion))
                channels = stage.channels
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(*conv_bn(channels, 1280, 1), nn.ReLU6())
        self.drop = nn.Dropout(dropout)
        self.head = make_head(1280, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, 224, 224) -> (B, num_classes)
        x = self.stem(x)  # (B, 32, 112, 112)
        x = self.blocks(x)  # (B, 320, 7, 7)
        x = self.last(x).mean((2, 3))  # (B, 1280)
        return self.head(self.drop(x))
