"""The blocks of residual networks: z ← g(z + f(z)), where f is a few convolutions and the added z is the shortcut.

He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016 (below: 2016a), with g = ReLU; and
"Identity Mappings in Deep Residual Networks", ECCV 2016 (2016b), with pre-activation: g is the identity, and
normalisation and ReLU come before each convolution of f.
Difference from the papers: a bottleneck has its stride in the 3×3 convolution, not in the first 1×1, so that
torchvision's weights fit.
"""

import torch.nn.functional as F
from torch import Tensor, nn


def conv(inputs: int, outputs: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias, which batch norm has: (B, inputs, H, W) -> (B, outputs, ⌈H/stride⌉, ⌈W/stride⌉)."""
    return nn.Conv2d(inputs, outputs, kernel_size, stride, padding=kernel_size // 2, bias=False)


class ZeroPad(nn.Module):
    """Shortcut option A (2016a, section 3.3): every stride-th pixel, zeros for the new channels; no parameters."""

    def __init__(self, new_channels: int, stride: int):
        super().__init__()
        self.new_channels, self.stride = new_channels, stride

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C + new_channels, H/stride, W/stride)
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))


def make_shortcut(kind: str, inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """The shortcut, added to f(z): z if the shape stays the same, else option A or B; None for a plain network."""
    if kind == "none":
        return None
    if inputs == outputs and stride == 1:
        return nn.Identity()
    if kind == "A":
        return ZeroPad(outputs - inputs, stride)
    return nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


def make_preact_shortcut(kind: str, inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """The shortcut of a pre-activation block; a projection has no batch norm, as its input is already normalised."""
    shortcut = make_shortcut(kind, inputs, outputs, stride)
    return shortcut[:1] if isinstance(shortcut, nn.Sequential) else shortcut


class BasicBlock(nn.Module):
    """Two 3×3 convolutions (2016a, figure 5 left).

    Args:
        inputs, width: numbers of input and output channels.
        stride: stride of the first convolution.
        shortcut: the kind of shortcut if the shape changes: "A" (``ZeroPad``) or "B" (1×1 projection); "none" never has
            a shortcut.
    """

    expansion = 1
    last = "bn2"  # the last layer of f: with its weight at zero, f = 0

    def __init__(self, inputs: int, width: int, stride: int, shortcut: str = "B"):
        super().__init__()
        self.conv1 = conv(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = make_shortcut(shortcut, inputs, width, stride)

    def forward(self, z: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, width, H/stride, W/stride)
        f = F.relu(self.bn1(self.conv1(z)))
        f = self.bn2(self.conv2(f))
        if self.downsample is not None:
            f = self.downsample(z) + f
        return F.relu(f)


class PreActBlock(nn.Module):
    """The pre-activation block (2016b, figure 4e): normalisation and ReLU come before each convolution, and nothing
    after the sum. The input of a projection is the activated z, that of other shortcuts z itself. Arguments as for
    ``BasicBlock``.
    """

    expansion = 1
    last = "conv2"

    def __init__(self, inputs: int, width: int, stride: int, shortcut: str = "B"):
        super().__init__()
        self.conv1 = conv(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv2 = conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = make_preact_shortcut(shortcut, inputs, width, stride)

    def forward(self, z: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, width, H/stride, W/stride)
        a = F.relu(self.bn1(z))
        f = self.conv1(a)
        f = self.conv2(F.relu(self.bn2(f)))
        if self.downsample is not None:
            f = self.downsample(a if isinstance(self.downsample, nn.Sequential) else z) + f
        return f


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions (2016a, figure 5 right); arguments as for ``BasicBlock``, but 4·width outputs."""

    expansion = 4
    last = "bn3"

    def __init__(self, inputs: int, width: int, stride: int, shortcut: str = "B"):
        super().__init__()
        self.conv1 = conv(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv(width, 4 * width, 1)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = make_shortcut(shortcut, inputs, 4 * width, stride)

    def forward(self, z: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, 4 width, H/stride, W/stride)
        f = F.relu(self.bn1(self.conv1(z)))
        f = F.relu(self.bn2(self.conv2(f)))
        f = self.bn3(self.conv3(f))
        if self.downsample is not None:
            f = self.downsample(z) + f
        return F.relu(f)


class PreActBottleneck(nn.Module):
    """The pre-activation bottleneck (2016b): the convolutions of ``Bottleneck`` in the order of ``PreActBlock``."""

    expansion = 4
    last = "conv3"

    def __init__(self, inputs: int, width: int, stride: int, shortcut: str = "B"):
        super().__init__()
        self.conv1 = conv(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv2 = conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv(width, 4 * width, 1)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample = make_preact_shortcut(shortcut, inputs, 4 * width, stride)

    def forward(self, z: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, 4 width, H/stride, W/stride)
        a = F.relu(self.bn1(z))
        f = self.conv1(a)
        f = self.conv2(F.relu(self.bn2(f)))
        f = self.conv3(F.relu(self.bn3(f)))
        if self.downsample is not None:
            f = self.downsample(a if isinstance(self.downsample, nn.Sequential) else z) + f
        return f


Block = BasicBlock | PreActBlock | Bottleneck | PreActBottleneck


def stage(block: type[Block], inputs: int, width: int, blocks: int, stride: int, shortcut: str) -> nn.Sequential:
    """A sequence of blocks of one width; the first of them has the stride."""
    first = block(inputs, width, stride, shortcut)
    rest = [block(width * block.expansion, width, 1, shortcut) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)
