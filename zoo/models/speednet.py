"""SpeedNet: a small network designed to reach 94 % accuracy on CIFAR-10 in the shortest training time.

Jordan: "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv 2404.00498, 2024; the network descends from Page's
ResNet-9 (2018). Its components, with the paper's sections: a frozen first convolution that whitens 2×2 patches (3.2),
identity initialisation of the other convolutions as far as possible (3.3), batch norm without a trained scale, max
pooling, GELU, and logits divided by 9. The rest of the method is in configs/experiment/speednet_cifar10.yaml: biases
with a 64 times higher learning rate (3.4), averaged weights (Lookahead, 3.4), test-time augmentation (3.5), and
alternating flip (3.6).

Differences from the author's code: the whitening layer's bias is trained in all epochs, not only in 3; biases have no
weight decay; batch norm has torch's ε, 1e-5 instead of 1e-12; the smaller last batch of an epoch is used too.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.layers import make_head


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A 3×3 convolution whose first ``in_channels`` output channels initially equal the inputs."""
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(conv.weight[:in_channels])
    return conv


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with a trained bias and a fixed scale of 1; its running statistics have momentum 0.4."""
    norm = nn.BatchNorm2d(channels, momentum=0.4)
    norm.weight.requires_grad = False
    return norm


class Block(nn.Module):
    """Convolutions with batch norm and GELU, the first followed by max pooling: (B, C, H, W) to (B, C', H/2, W/2).

    With three convolutions, the last two have a residual connection around them (the paper's airbench96).
    """

    def __init__(self, in_channels: int, out_channels: int, convs: int = 2):
        super().__init__()
        self.conv1, self.norm1 = conv3x3(in_channels, out_channels), batch_norm(out_channels)
        self.conv2, self.norm2 = conv3x3(out_channels, out_channels), batch_norm(out_channels)
        self.conv3 = conv3x3(out_channels, out_channels) if convs == 3 else None
        self.norm3 = batch_norm(out_channels) if convs == 3 else None

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))  # (B, C', H/2, W/2)
        y = self.norm2(self.conv2(x))
        if self.conv3 is not None and self.norm3 is not None:
            y = x + self.norm3(self.conv3(F.gelu(y)))
        return F.gelu(y)


class SpeedNet(nn.Module):
    """A whitening convolution, three blocks, max pooling, and one linear layer.

    Args:
        num_classes: size of the output; 0 gives the pooled features.
        in_channels: 1 for grey images, 3 for colour.
        widths: channels of the three blocks; the paper's airbench94 has (64, 256, 256), airbench95 (128, 384, 384).
        convs: number of convolutions per block, 2 or 3.
        scale: factor by which the logits are multiplied.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        widths: tuple[int, int, int] = (64, 256, 256),
        convs: int = 2,
        scale: float = 1 / 9,
    ):
        super().__init__()
        if convs not in (2, 3):
            raise ZooError(f"convs={convs} is not valid: give 2 or 3")
        self.image_size = 32  # the size it is designed for; others work too
        patch = 4 * in_channels  # values in a 2×2 patch: 12 for colour
        self.whiten = nn.Conv2d(in_channels, 2 * patch, 2)
        self.whiten.weight.requires_grad = False
        self.block1 = Block(2 * patch, widths[0], convs)
        self.block2 = Block(widths[0], widths[1], convs)
        self.block3 = Block(widths[1], widths[2], convs)
        self.head = make_head(widths[2], num_classes)
        if num_classes:
            self.head.bias = None  # type: ignore[assignment]
        self.scale = scale if num_classes else 1.0

    def init_from_data(self, x: Tensor, eps: float = 5e-4) -> None:
        """Set the weights of the first layer so that it whitens patches; called before training (section 3.2).

        The kernels are the eigenvectors of the covariance of all 2×2 patches, each divided by the square root of its
        eigenvalue, and the negatives of these, since the GELU that follows treats signs differently.

        Args:
            x: preprocessed training images (n, C, H, W); they are normalised, so their mean is taken to be 0.
            eps: added to the eigenvalues.
        """
        c = x.shape[1]
        patches = x.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 4 * c)  # (n(H−1)(W−1), 4C)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))  # normalised images have mean 0
        kernels = (vectors / (values + eps).sqrt()).T.reshape(-1, c, 2, 2)
        with torch.no_grad():
            self.whiten.weight.copy_(torch.cat([kernels, -kernels]))
            self.whiten.bias.zero_()  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, 32, 32)
        x = F.gelu(self.whiten(x))  # (B, 24, 31, 31)
        x = self.block1(x)  # (B, 64, 15, 15)
        x = self.block2(x)  # (B, 256, 7, 7)
        x = self.block3(x)  # (B, 256, 3, 3)
        x = x.amax(dim=(2, 3))  # (B, 256)
        return self.head(x) * self.scale  # (B, num_classes)
