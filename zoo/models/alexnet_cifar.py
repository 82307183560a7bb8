"""AlexNet for small images, such as those of CIFAR-10.

It has the five convolutions, overlapping poolings and three fully connected layers of the paper (Krizhevsky et al.
2012; see ``zoo.models.alexnet``). It differs from the paper in its 3×3 kernels with stride 1, its widths and its batch
norm.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.arguments import Positive, Probability
from zoo.errors import ZooError
from zoo.layers import make_head


class Conv(nn.Module):
    """A 3×3 convolution, batch norm (or a bias instead) and ReLU: (B, inputs, H, W) -> (B, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int, batch_norm: bool):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=not batch_norm)
        self.bn = nn.BatchNorm2d(outputs) if batch_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class CifarAlexNet(nn.Module):
    """AlexNet for small images: the first convolution has stride 1, and each pooling halves the feature maps.

    Args:
        num_classes: size of the output; 0 gives the last hidden layer's features.
        in_channels: 1 for grey images, 3 for colour.
        image_size: height and width in pixels.
        channels: feature maps of the five convolutions.
        hidden: widths of fc6 and fc7.
        dropout: probability in [0, 1) that an input of fc6 and fc7 is set to zero.
        batch_norm: use batch norm after each convolution.

    Raises:
        ZooError: not five numbers of channels, or not two hidden widths.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,
        channels: Sequence[Positive] = (64, 128, 192, 128, 128),
        hidden: Sequence[Positive] = (512, 512),
        dropout: Probability = 0.5,
        batch_norm: bool = True,
    ):
        super().__init__()
        if len(channels) != 5 or len(hidden) != 2:
            raise ZooError(
                f"channels={list(channels)}, hidden={list(hidden)}: AlexNet has five convolutions and two hidden fully "
                "connected layers; valid: five numbers and two"
            )
        c1, c2, c3, c4, c5 = channels
        side = -(-image_size // 8)  # halved three times, rounded up
        self.conv1 = Conv(in_channels, c1, batch_norm)
        self.conv2 = Conv(c1, c2, batch_norm)
        self.conv3 = Conv(c2, c3, batch_norm)
        self.conv4 = Conv(c3, c4, batch_norm)
        self.conv5 = Conv(c4, c5, batch_norm)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.drop6 = nn.Dropout(dropout)
        self.fc6 = nn.Linear(c5 * side**2, hidden[0])
        self.drop7 = nn.Dropout(dropout)
        self.fc7 = nn.Linear(hidden[0], hidden[1])
        self.head = make_head(hidden[1], num_classes)
        for module in self.modules():  # He et al. 2015, equation 10; small head weights make the first logits small
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module is self.head:
                    nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:  # sizes for 32 px: (B, 3, 32, 32)
        x = self.pool(self.conv1(x))  # (B, 64, 16, 16)
        x = self.pool(self.conv2(x))  # (B, 128, 8, 8)
        x = self.conv3(x)  # (B, 192, 8, 8)
        x = self.conv4(x)  # (B, 128, 8, 8)
        x = self.pool(self.conv5(x)).flatten(1)  # (B, 2048)
        x = F.relu(self.fc6(self.drop6(x)))  # (B, 512)
        x = F.relu(self.fc7(self.drop7(x)))  # (B, 512)
        return self.head(x)  # (B, num_classes)
