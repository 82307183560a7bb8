"""ResNet-20 for 32×32 colour, to measure with: He et al. 2016, section 4.2, shortcuts without parameters (option A)."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

# overrides that train it on colour photographs by the zoo's own config
RESNET20 = (
    "~model",
    "+model={_target_: resnet20.ResNet20, num_classes: 10}",
    "name=resnet20",
    "data=cifar10_small",
    "data.batch_size=128",
)


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.stride, self.extra = outputs // inputs, outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, self.stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.extra:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))
        return F.relu(x + y)


class ResNet20(nn.Module):
    """272,474 parameters."""

    def __init__(self, num_classes: int = 10):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
        self.blocks = nn.Sequential(*(Block(a, b) for a, b in pairwise(widths)))
        self.head = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, 32, 32) -> (B, num_classes)
        x = self.blocks(F.relu(self.norm(self.conv(x))))  # (B, 64, 8, 8)
        return self.head(x.mean((2, 3)))
