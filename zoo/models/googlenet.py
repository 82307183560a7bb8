"""GoogLeNet: nine inception blocks, each with four parallel branches.

Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich: "Going Deeper with Convolutions", CVPR 2015
(arXiv 1409.4842, 2014), table 1 and section 5.

Difference from the paper by default: batch norm after each convolution (Ioffe, Szegedy 2015; also in torchvision), as
the network then trains in a tenth of the steps; ``batch_norm=False`` gives biases and local response normalisation, as
published. ``stem="cifar"`` and ``width`` adapt it to small images. Torchvision's version differs in two more sizes: its
weights fit with ``kernel5=3`` and ``pool4=2``, and expect images normalised with mean and standard deviation 0.5.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.arguments import Positive, Probability
from zoo.errors import ZooError
from zoo.layers import ResponseNorm, make_head


class Conv(nn.Module):
    """A convolution and ReLU, with batch norm in between or a bias: (B, inputs, H, W) -> (B, outputs, H', W')."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, batch_norm: bool, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size, stride, padding=kernel_size // 2, bias=not batch_norm)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3) if batch_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """1×1, 3×3 and 5×5 convolutions and a max pooling of the same input, with concatenated outputs (figure 2b).

    Args:
        inputs: number of input channels.
        c1, r3, c3, r5, c5, pool: numbers of channels, a row of table 1: the 1×1 branch, the 1×1 reduction before the
            3×3 convolution, the 3×3, the reduction before the 5×5, the 5×5, and the projection after the pooling.
        kernel5: kernel size of the 5×5 branch.
        batch_norm: as in ``Conv``.
    """

    def __init__(
        self, inputs: int, c1: int, r3: int, c3: int, r5: int, c5: int, pool: int, kernel5: int, batch_norm: bool
    ):
        super().__init__()
        self.outputs = c1 + c3 + c5 + pool
        self.branch1 = Conv(inputs, c1, 1, batch_norm)
        self.branch2 = nn.Sequential(Conv(inputs, r3, 1, batch_norm), Conv(r3, c3, 3, batch_norm))
        self.branch3 = nn.Sequential(Conv(inputs, r5, 1, batch_norm), Conv(r5, c5, kernel5, batch_norm))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), Conv(inputs, pool, 1, batch_norm))

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, c1 + c3 + c5 + pool, H, W)
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class Auxiliary(nn.Module):
    """A classifier on an intermediate layer, whose loss gives the layers below an additional gradient (section 5)."""

    def __init__(
        self,
        inputs: int,
        channels: Positive,
        hidden: Positive,
        num_classes: int,
        dropout: Probability,
        batch_norm: bool,
    ):
        super().__init__()
        self.conv = Conv(inputs, channels, 1, batch_norm)
        self.fc1 = nn.Linear(16 * channels, hidden)
        self.dropout = nn.Dropout(dropout)
        self.head = make_head(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # sizes for 224 px and aux1: (B, 512, 14, 14)
        if min(x.shape[2:]) >= 14:
            x = F.avg_pool2d(x, 5, stride=3)  # (B, 512, 4, 4)
        x = self.conv(F.adaptive_avg_pool2d(x, 4))  # (B, 128, 4, 4); maps of another size become 4×4 here
        x = F.relu(self.fc1(x.flatten(1)))  # (B, 1024)
        return self.head(self.dropout(x))  # (B, num_classes)


class GoogLeNet(nn.Module):
    """22 layers with weights, and two auxiliary classifiers for training.

    ``forward`` gives the final logits only, even in training; ``forward_with_aux`` gives the logits of all three
    classifiers, for a training loss in which the auxiliary losses have weight 0.3.

    Args:
        num_classes: size of the outputs; 0 gives the pooled features.
        in_channels: 1 for grey images, 3 for colour.
        stem: "imagenet" (7×7 convolution with stride 2 and two poolings: the maps in inception 3, 4 and 5 have 1/8,
            1/16 and 1/32 of the image's side) or "cifar" (3×3 with stride 1 and one pooling: 1/2, 1/4 and 1/8).
        width: factor of all channel numbers, which are then rounded to multiples of 8.
        batch_norm: normalise after each convolution; False: the paper's biases and local response normalisation.
        kernel5: kernel size in the 5×5 branches; torchvision has 3.
        pool4: kernel size of the last max pooling; torchvision has 2.
        dropout: probability in [0, 1) that a feature is set to zero before the head; 0.4 in the paper.
        aux_dropout: the same before the auxiliary heads; 0.7 in the paper.

    Raises:
        ZooError: the stem is unknown, or the width is not positive.
    """

    heads: ClassVar[tuple[str, ...]] = ("head", "aux1.head", "aux2.head")  # the layers sized by num_classes
    torchvision_names: ClassVar[dict[str, str]] = {"fc": "head", "aux1.fc2": "aux1.head", "aux2.fc2": "aux2.head"}

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        stem: str = "imagenet",
        width: float = 1.0,
        batch_norm: bool = True,
        kernel5: int = 5,
        pool4: int = 3,
        dropout: Probability = 0.4,
        aux_dropout: float = 0.7,
    ):
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise ZooError(f"stem={stem} is unknown; valid: imagenet, cifar")
        if width <= 0:
            raise ZooError(f"width={width} is not valid: give more than 0")
        large = stem == "imagenet"
        self.image_size = 224 if large else 32  # the size the stem is designed for; others work too

        def scaled(channels: int) -> int:
            return max(8, round(channels * width / 8) * 8)

        def pool(kernel_size: int) -> nn.Module:
            return nn.MaxPool2d(kernel_size, stride=2, ceil_mode=True)  # 112 px -> 56 px

        def normalise() -> nn.Module:
            return nn.Identity() if batch_norm else ResponseNorm(5, 1e-4 / 5, 0.75, 1.0)  # Caffe's parameters

        def inception(inputs: int, *row: int) -> Inception:  # a row of table 1
            c1, r3, c3, r5, c5, projection = map(scaled, row)
            return Inception(inputs, c1, r3, c3, r5, c5, projection, kernel5, batch_norm)

        c64, c192 = scaled(64), scaled(192)
        self.conv1 = Conv(in_channels, c64, 7 if large else 3, batch_norm, stride=2 if large else 1)
        self.maxpool1 = pool(3) if large else nn.Identity()
        self.norm1 = normalise()
        self.conv2 = Conv(c64, c64, 1, batch_norm)
        self.conv3 = Conv(c64, c192, 3, batch_norm)
        self.norm2 = normalise()
        self.maxpool2 = pool(3)
        self.inception3a = inception(c192, 64, 96, 128, 16, 32, 32)
        self.inception3b = inception(self.inception3a.outputs, 128, 128, 192, 32, 96, 64)
        self.maxpool3 = pool(3)
        self.inception4a = inception(self.inception3b.outputs, 192, 96, 208, 16, 48, 64)
        self.inception4b = inception(self.inception4a.outputs, 160, 112, 224, 24, 64, 64)
        self.inception4c = inception(self.inception4b.outputs, 128, 128, 256, 24, 64, 64)
        self.inception4d = inception(self.inception4c.outputs, 112, 144, 288, 32, 64, 64)
        self.inception4e = inception(self.inception4d.outputs, 256, 160, 320, 32, 128, 128)
        self.maxpool4 = pool(pool4)
        self.inception5a = inception(self.inception4e.outputs, 256, 160, 320, 32, 128, 128)
        self.inception5b = inception(self.inception5a.outputs, 384, 192, 384, 48, 128, 128)
        sizes = (scaled(128), scaled(1024), num_classes, aux_dropout, batch_norm)
        self.aux1 = Auxiliary(self.inception4a.outputs, *sizes)
        self.aux2 = Auxiliary(self.inception4d.outputs, *sizes)
        self.dropout = nn.Dropout(dropout)
        self.head = make_head(self.inception5b.outputs, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def stages(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The outputs of inception 4a, 4d and 5b; sizes for 224 px and width 1."""
        x = self.norm1(self.maxpool1(self.conv1(x)))  # (B, 64, 56, 56)
        x = self.norm2(self.conv3(self.conv2(x)))  # (B, 192, 56, 56)
        x = self.inception3b(self.inception3a(self.maxpool2(x)))  # (B, 480, 28, 28)
        a = self.inception4a(self.maxpool3(x))  # (B, 512, 14, 14)
        d = self.inception4d(self.inception4c(self.inception4b(a)))  # (B, 528, 14, 14)
        x = self.inception4e(d)  # (B, 832, 14, 14)
        x = self.inception5b(self.inception5a(self.maxpool4(x)))  # (B, 1024, 7, 7)
        return a, d, x

    def classify(self, x: Tensor) -> Tensor:  # (B, 1024, 7, 7) -> (B, num_classes)
        return self.head(self.dropout(x.mean((2, 3))))

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, 224, 224) -> (B, num_classes)
        return self.classify(self.stages(x)[2])

    def forward_with_aux(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The final logits and those of the auxiliary heads on inception 4a and 4d, each (B, num_classes)."""
        a, d, x = self.stages(x)
        return self.classify(x), self.aux1(a), self.aux2(d)
