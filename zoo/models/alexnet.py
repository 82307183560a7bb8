"""AlexNet with a single tower, ``AlexNet``, and with two towers as published in 2012, ``AlexNet2012``.

Krizhevsky, Sutskever, Hinton: "ImageNet Classification with Deep Convolutional Neural Networks", NIPS 2012 (below:
2012), and Krizhevsky: "One weird trick for parallelizing convolutional neural networks", arXiv 1404.5997, 2014 (2014).
For images of 32 px see ``zoo.models.alexnet_cifar``.

``AlexNet`` is the network of 2014 as implemented in torchvision, and can load torchvision's weights. In contrast to
2012 it has no response normalisation, fewer feature maps in conv1 (64 instead of 96), conv2 (192 instead of 256) and
conv4 (256 instead of 384), and dropout before instead of after fc6 and fc7. The paper of 2014 gives no initial weights,
so torch's defaults are used, as in torchvision.

``AlexNet2012`` is the network of the paper. The paper does not give the padding of conv1; it is chosen so that an image
of 224 px gives feature maps of 55×55. The paper's initial weights and response normalisation are made for pixels from
0 to 255 minus their mean; ``pixel_scale`` brings the zoo's images, whose standard deviation is 1, to that range.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.arguments import Probability
from zoo.errors import ZooError
from zoo.layers import ResponseNorm, make_head


def last_side(image_size: int) -> int:
    """Height and width of the feature maps after conv1 and the three overlapping poolings: 6 for 224 px.

    Raises:
        ZooError: the image is so small that no pixel would be left.
    """
    side = (image_size + 2 * 2 - 11) // 4 + 1
    for _ in range(3):
        side = (side - 3) // 2 + 1
    if side < 1:
        raise ZooError(f"image_size={image_size} is too small; valid: 63 or more; for 32 px: model=alexnet_cifar")
    return side


class Tower(nn.Module):
    """The part of the network on one of the two GPUs (2012, figure 2): half of the feature maps or units of every layer
    except the head.

    The argument ``both`` of the methods is the concatenated output of the two towers. Response normalisation covers
    the maps of one tower only.

    Args:
        in_channels: channels of the image.
        side: height and width of the feature maps before fc6.
        dropout: probability in [0, 1) that an output of fc6 and fc7 is set to zero.
    """

    def __init__(self, in_channels: int, side: int, dropout: Probability):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 48, 11, stride=4, padding=2)
        self.conv2 = nn.Conv2d(48, 128, 5, padding=2)
        self.conv3 = nn.Conv2d(2 * 128, 192, 3, padding=1)
        self.conv4 = nn.Conv2d(192, 192, 3, padding=1)
        self.conv5 = nn.Conv2d(192, 128, 3, padding=1)
        self.norm = ResponseNorm(size=5, alpha=1e-4, beta=0.75, k=2.0)
        self.pool = nn.MaxPool2d(3, stride=2)
        self.fc6 = nn.Linear(2 * 128 * side**2, 2048)
        self.drop6 = nn.Dropout(dropout)
        self.fc7 = nn.Linear(2 * 2048, 2048)
        self.drop7 = nn.Dropout(dropout)

    def conv12(self, x: Tensor) -> Tensor:  # (B, 3, 224, 224)
        x = self.pool(self.norm(F.relu(self.conv1(x))))  # (B, 48, 27, 27)
        return self.pool(self.norm(F.relu(self.conv2(x))))  # (B, 128, 13, 13)

    def conv345(self, both: Tensor) -> Tensor:  # (B, 2·128, 13, 13)
        x = F.relu(self.conv3(both))  # (B, 192, 13, 13)
        x = F.relu(self.conv4(x))  # (B, 192, 13, 13)
        return self.pool(F.relu(self.conv5(x)))  # (B, 128, 6, 6)

    def full6(self, both: Tensor) -> Tensor:  # (B, 2·128, 6, 6) -> (B, 2048)
        return self.drop6(F.relu(self.fc6(both.flatten(1))))

    def full7(self, both: Tensor) -> Tensor:  # (B, 2·2048) -> (B, 2048)
        return self.drop7(F.relu(self.fc7(both)))


def exchange(halves: tuple[Tensor, Tensor], device: torch.device) -> Tensor:
    """Concatenate the outputs of both towers on one device: twice (B, C, …) -> (B, 2 C, …)."""
    return torch.cat([half.to(device) for half in halves], 1)


class AlexNet(nn.Module):
    """The network of 2014: one tower of eight layers with weights.

    Args:
        num_classes: size of the output; 0 gives the last hidden layer's features.
        in_channels: 1 for grey images, 3 for colour.
        image_size: height and width in pixels, 63 or more; the feature maps before fc6 are average-pooled to 6×6.
        dropout: probability in [0, 1) that an input of fc6 and fc7 is set to zero.

    Raises:
        ZooError: image_size is too small.
    """

    torchvision_names: ClassVar[dict[str, str]] = {
        "features.0": "conv1", "features.3": "conv2", "features.6": "conv3", "features.8": "conv4",
        "features.10": "conv5", "classifier.1": "fc6", "classifier.4": "fc7", "classifier.6": "head",
    }  # fmt: skip

    def __init__(
        self, num_classes: int = 1000, in_channels: int = 3, image_size: int = 224, dropout: Probability = 0.5
    ):
        super().__init__()
        last_side(image_size)  # raises for too small images
        self.conv1 = nn.Conv2d(in_channels, 64, 11, stride=4, padding=2)
        self.conv2 = nn.Conv2d(64, 192, 5, padding=2)
        self.conv3 = nn.Conv2d(192, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 256, 3, padding=1)
        self.conv5 = nn.Conv2d(256, 256, 3, padding=1)
        self.pool = nn.MaxPool2d(3, stride=2)
        self.drop6 = nn.Dropout(dropout)
        self.fc6 = nn.Linear(256 * 6 * 6, 4096)
        self.drop7 = nn.Dropout(dropout)
        self.fc7 = nn.Linear(4096, 4096)
        self.head = make_head(4096, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # sizes for 224 px: (B, 3, 224, 224)
        x = self.pool(F.relu(self.conv1(x)))  # (B, 64, 27, 27)
        x = self.pool(F.relu(self.conv2(x)))  # (B, 192, 13, 13)
        x = F.relu(self.conv3(x))  # (B, 384, 13, 13)
        x = F.relu(self.conv4(x))  # (B, 256, 13, 13)
        x = self.pool(F.relu(self.conv5(x)))  # (B, 256, 6, 6)
        x = F.adaptive_avg_pool2d(x, 6).flatten(1)  # (B, 9216)
        x = F.relu(self.fc6(self.drop6(x)))  # (B, 4096)
        x = F.relu(self.fc7(self.drop7(x)))  # (B, 4096)
        return self.head(x)  # (B, num_classes)


class AlexNet2012(nn.Module):
    """The network of 2012: two towers that exchange their outputs only before conv3, fc6, fc7 and the head (section
    3.2).

    Each tower has its own convolutions, in place of convolutions with two groups. ``place(a, b)`` puts the towers on
    two devices.

    Args:
        num_classes: size of the output; 0 gives the last hidden layer's features.
        in_channels: 1 for grey images, 3 for colour.
        image_size: height and width in pixels, 63 or more; 224 in the paper.
        dropout: probability in [0, 1) that an output of fc6 and fc7 is set to zero.
        pixel_scale: factor by which images are multiplied before the first layer: about the standard deviation of the
            pixels of photographs, on the scale from 0 to 255.

    Raises:
        ZooError: image_size is too small.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: int = 224,
        dropout: Probability = 0.5,
        pixel_scale: float = 64.0,
    ):
        super().__init__()
        side = last_side(image_size)
        self.pixel_scale = pixel_scale
        self.tower1 = Tower(in_channels, side, dropout)
        self.tower2 = Tower(in_channels, side, dropout)
        self.head = make_head(2 * 2048, num_classes)
        for name, module in self.named_modules():  # initial weights and biases of section 5
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.normal_(module.weight, std=0.01)
                ones = name.endswith(("conv2", "conv4", "conv5", "fc6", "fc7"))
                nn.init.constant_(module.bias, 1.0 if ones else 0.0)  # type: ignore[arg-type]

    def place(self, a: torch.device | str, b: torch.device | str) -> "AlexNet2012":
        """Move the first tower and the head to device ``a``, the second tower to ``b``; the output is on ``a``.

        Create the optimizer afterwards. ``model.to(device)`` moves everything to one device again.
        """
        self.tower1.to(a)
        self.head.to(a)
        self.tower2.to(b)
        return self

    def forward(self, x: Tensor) -> Tensor:  # sizes for 224 px: (B, 3, 224, 224)
        one, two = self.tower1, self.tower2
        a, b = one.conv1.weight.device, two.conv1.weight.device
        x = self.pixel_scale * x
        halves = one.conv12(x.to(a)), two.conv12(x.to(b))  # twice (B, 128, 13, 13)
        halves = one.conv345(exchange(halves, a)), two.conv345(exchange(halves, b))  # twice (B, 128, 6, 6)
        halves = one.full6(exchange(halves, a)), two.full6(exchange(halves, b))  # twice (B, 2048)
        halves = one.full7(exchange(halves, a)), two.full7(exchange(halves, b))  # twice (B, 2048)
        return self.head(exchange(halves, a))  # (B, num_classes)
