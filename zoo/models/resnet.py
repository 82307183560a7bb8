"""Residual networks: ``CifarResNet`` for 32 px images, also as a plain network, and ``ResNet`` for 224 px images.

He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016 (below: 2016a), and "Identity Mappings in
Deep Residual Networks", ECCV 2016 (2016b). Their blocks are in ``zoo.models.residual``.
Difference from the papers: the weights of the head start near zero, as in Goyal et al. (arXiv 1706.02677, section 5.1),
so the logits do too at any depth.
"""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.arguments import Positive, Probability
from zoo.errors import ZooError
from zoo.layers import make_head
from zoo.models.residual import BasicBlock, Block, Bottleneck, PreActBlock, PreActBottleneck, conv, stage


def initialise(model: nn.Module, zero_init_residual: bool) -> None:
    """He initialisation of the convolutions with fan-out, as in the authors' code; on request f = 0 in each block."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
    for module in model.modules():
        if zero_init_residual and isinstance(module, Block):
            nn.init.zeros_(module.get_parameter(f"{module.last}.weight"))


class CifarResNet(nn.Module):
    """Three stages of n blocks (2016a, section 4.2).

    Args:
        num_classes: size of the output; 0 gives the pooled features.
        in_channels: 1 for grey images, 3 for colour.
        depth: number of layers with weights, 6n + 2: 20, 32, 44, 56, 110 in the paper.
        shortcut: "A" (no parameters, the paper's) or "B" (projection) where the shape changes; "none": a plain network.
        preact: use pre-activation blocks (2016b).
        width: channels of the first stage, doubled in each of the next two.
        dropout: probability in [0, 1) that a feature is set to zero before the head; the paper uses none.
        zero_init_residual: start every block with f = 0, which makes it the identity except for g and changes of shape.

    Raises:
        ZooError: the depth or shortcut is not valid.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        depth: Positive = 20,
        shortcut: str = "A",
        preact: bool = False,
        width: int = 16,
        dropout: Probability = 0.0,
        zero_init_residual: bool = False,
    ):
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ZooError(f"depth={depth} is not 6n + 2; valid: 8, 14, 20, 26, 32, 44, 56, 110, …")
        if shortcut not in ("A", "B", "none"):
            raise ZooError(f"shortcut={shortcut} is unknown; valid: A, B, none")
        if shortcut == "none" and zero_init_residual:
            raise ZooError("zero_init_residual=true makes a plain network's output constant; valid: shortcut=A, B")
        self.image_size = 32  # the size it is designed for; others work too
        n, block = (depth - 2) // 6, PreActBlock if preact else BasicBlock
        self.conv1 = conv(in_channels, width, 3)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = stage(block, width, width, n, 1, shortcut)
        self.layer2 = stage(block, width, 2 * width, n, 2, shortcut)
        self.layer3 = stage(block, 2 * width, 4 * width, n, 2, shortcut)
        self.norm = nn.Sequential(nn.BatchNorm2d(4 * width), nn.ReLU()) if preact else nn.Identity()
        if preact:
            self.layer1[0].bn1 = nn.Identity()  # the stem's norm serves both paths of this block (2016b, appendix)
        self.dropout = nn.Dropout(dropout)
        self.head = make_head(4 * width, num_classes)
        initialise(self, zero_init_residual)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, 32, 32)
        x = F.relu(self.bn1(self.conv1(x)))  # (B, 16, 32, 32)
        x = self.layer1(x)  # (B, 16, 32, 32)
        x = self.layer2(x)  # (B, 32, 16, 16)
        x = self.layer3(x)  # (B, 64, 8, 8)
        x = self.norm(x).mean((2, 3))
        return self.head(self.dropout(x))  # (B, num_classes)


PREACT = {BasicBlock: PreActBlock, Bottleneck: PreActBottleneck}
DEPTHS: dict[int, tuple[type[BasicBlock | Bottleneck], tuple[int, int, int, int]]] = {  # 2016a, table 1
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


class ResNet(nn.Module):
    """Four stages of blocks with projections (2016a, table 1).

    Args:
        num_classes, in_channels, preact, dropout, zero_init_residual: see ``CifarResNet``.
        depth: number of layers with weights: 18 or 34 (``BasicBlock``), 50, 101 or 152 (``Bottleneck``).
        stem: "imagenet", 7×7 with stride 2 and max pooling, or "cifar", 3×3 with stride 1 and no pooling.

    Raises:
        ZooError: the depth or stem is not valid.
    """

    torchvision_names: ClassVar[dict[str, str]] = {"fc": "head"}  # torchvision's name and the one used here

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        depth: Positive = 50,
        stem: str = "imagenet",
        preact: bool = False,
        dropout: Probability = 0.0,
        zero_init_residual: bool = False,
    ):
        super().__init__()
        if depth not in DEPTHS:
            raise ZooError(f"depth={depth} is unknown; valid: {', '.join(map(str, DEPTHS))}")
        if stem not in ("imagenet", "cifar"):
            raise ZooError(f"stem={stem} is unknown; valid: imagenet, cifar")
        self.image_size = 224 if stem == "imagenet" else 32  # the size it is designed for; others work too
        kind, (n1, n2, n3, n4) = DEPTHS[depth]
        block: type[Block] = PREACT[kind] if preact else kind
        width = 64 * block.expansion  # channels after the first stage
        self.conv1 = conv(in_channels, 64, 7, 2) if stem == "imagenet" else conv(in_channels, 64, 3)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if stem == "imagenet" else nn.Identity()
        self.layer1 = stage(block, 64, 64, n1, 1, "B")
        self.layer2 = stage(block, width, 128, n2, 2, "B")
        self.layer3 = stage(block, 2 * width, 256, n3, 2, "B")
        self.layer4 = stage(block, 4 * width, 512, n4, 2, "B")
        self.norm = nn.Sequential(nn.BatchNorm2d(8 * width), nn.ReLU()) if preact else nn.Identity()
        if preact:
            self.layer1[0].bn1 = nn.Identity()  # the stem's norm serves both paths of this block (2016b, appendix)
        self.dropout = nn.Dropout(dropout)
        self.head = make_head(8 * width, num_classes)
        initialise(self, zero_init_residual)

    def forward(self, x: Tensor) -> Tensor:  # sizes for depth 18 and 34: (B, 3, 224, 224)
        x = F.relu(self.bn1(self.conv1(x)))  # (B, 64, 112, 112)
        x = self.layer1(self.maxpool(x))  # (B, 64, 56, 56); depths from 50 on have 4 times the channels from here on
        x = self.layer2(x)  # (B, 128, 28, 28)
        x = self.layer3(x)  # (B, 256, 14, 14)
        x = self.layer4(x)  # (B, 512, 7, 7)
        x = self.norm(x).mean((2, 3))
        return self.head(self.dropout(x))  # (B, num_classes)
