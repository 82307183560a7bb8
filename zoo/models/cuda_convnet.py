"""Krizhevsky's two small networks for CIFAR-10: ``CudaConvNet`` (18 % error) and ``CudaConvNetLocal`` (11 %).

There is no paper. The networks are defined in files that came with his program cuda-convnet, 2011 and 2012:
layers-18pct.cfg and layers-conv-local-11pct.cfg. Layers, their order, sizes, initial weights and normalisation follow
these files, as found in public copies of the program. An older 11 % file has 32 feature maps in local3, and normalises
over 5 maps, before each pooling.

Original training: batches of 128, SGD with momentum 0.9, learning rate 0.001 (0.002 for biases), and weight decay
(torch's definition, multiplied by the learning rate) 0.004, except 1 for the head of the 18 % network and 0 for the
convolutions of the 11 % network. The 18 % network was trained for 120 epochs, then 10 at a tenth and 10 at a hundredth
of the learning rate, without augmentation. The 11 % network was trained for some 450 epochs on mirrored 24 px crops,
then 10 and 10 at lower rates likewise, and tested on the mean prediction over crops and mirror images. Two facts are
from memory: the batch size of the 18 % network, and that in the last version the head of the 11 % network has weight
decay 0.01.

Difference from the original: its images were pixels from 0 to 255 minus the mean *image*. The zoo's images have mean 0
and standard deviation 1 per channel, so they are multiplied by ``pixel_scale``, about the standard deviation of
CIFAR-10's pixels; otherwise the initial weights, learning rates and normalisation would have another effect.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.arguments import Probability
from zoo.errors import ZooError
from zoo.layers import ResponseNorm, make_head


def gaussian(layer: nn.Module, std: float) -> nn.Module:
    """Initialise a layer with weights from N(0, std²) and zero biases, and return it."""
    for name, parameter in layer.named_parameters():
        nn.init.normal_(parameter, std=std) if name == "weight" else nn.init.zeros_(parameter)
    return layer


def conv(inputs: int, outputs: int, std: float) -> nn.Module:
    """A 5×5 convolution with padding and ``gaussian`` weights: (B, inputs, H, W) -> (B, outputs, H, W)."""
    return gaussian(nn.Conv2d(inputs, outputs, 5, padding=2), std)


class SameMapNorm(nn.Module):
    """Response normalisation within each feature map: u / (1 + α/N² Σ u²)^β, the sum over N×N neighbours, zero-padded.

    This is cuda-convnet's rnorm; its cmrnorm, across neighbouring maps, is ``zoo.layers.ResponseNorm``.
    """

    def __init__(self, size: int = 3, alpha: float = 5e-5, beta: float = 0.75):
        super().__init__()
        self.size, self.alpha, self.beta = size, alpha, beta

    def forward(self, u: Tensor) -> Tensor:  # (B, C, H, W) -> the same shape
        mean = F.avg_pool2d(u.square(), self.size, stride=1, padding=self.size // 2)  # Σ u² / N²
        return u * (1 + self.alpha * mean) ** -self.beta


class LocallyConnected2d(nn.Module):
    """A convolution with a separate kernel and bias for each position: (B, inputs, H, W) -> (B, outputs, H, W).

    Args:
        inputs, outputs: numbers of feature maps.
        image_size: height and width of the maps.
        kernel_size: odd; the maps are padded with zeros to keep their size.
        std: standard deviation of the initial weights.
    """

    def __init__(self, inputs: int, outputs: int, image_size: int, kernel_size: int = 3, std: float = 0.04):
        super().__init__()
        self.kernel_size, self.image_size = kernel_size, image_size
        self.outputs = outputs
        units = image_size**2 * outputs  # each has a row of weights and a bias, as in a linear layer
        self.weight = nn.Parameter(torch.empty(units, inputs * kernel_size**2))
        self.bias = nn.Parameter(torch.empty(units))
        gaussian(self, std)

    def forward(self, x: Tensor) -> Tensor:
        patches = F.unfold(x, self.kernel_size, padding=self.kernel_size // 2)  # (B, inputs·k², H·W)
        weight, bias = self.weight.unflatten(0, (-1, self.outputs)), self.bias.view(-1, self.outputs)
        y = torch.einsum("bkp,pok->bop", patches, weight) + bias.T  # (B, outputs, H·W)
        return y.unflatten(2, (self.image_size, self.image_size))


class CudaConvNet(nn.Module):
    """The 18 % network: three convolutions and one fully connected layer.

    Args:
        num_classes: size of the output; 0 gives the flattened feature maps of the last pooling.
        in_channels: 1 for grey images, 3 for colour.
        image_size: height and width in pixels, 8 or more.
        pixel_scale: factor by which images are multiplied before the first layer.
        dropout: probability in [0, 1) that an input of the head is set to zero; the original has no dropout.

    Raises:
        ZooError: image_size is too small.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,
        pixel_scale: float = 64.0,
        dropout: Probability = 0.0,
    ):
        super().__init__()
        if image_size < 8:
            raise ZooError(f"image_size={image_size} is too small: three poolings need 8 or more")
        self.pixel_scale = pixel_scale
        self.conv1 = conv(in_channels, 32, std=0.0001)
        self.pool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.norm1 = SameMapNorm()
        self.conv2 = conv(32, 32, std=0.01)
        self.pool2 = nn.AvgPool2d(3, stride=2, ceil_mode=True)
        self.norm2 = SameMapNorm()
        self.conv3 = conv(32, 64, std=0.01)
        self.pool3 = nn.AvgPool2d(3, stride=2, ceil_mode=True)
        self.dropout = nn.Dropout(dropout)
        self.head = gaussian(make_head(64 * (image_size // 8) ** 2, num_classes), std=0.01)

    def forward(self, x: Tensor) -> Tensor:  # sizes for 32 px: (B, 3, 32, 32)
        x = F.relu(self.pool1(self.conv1(self.pixel_scale * x)))  # (B, 32, 16, 16)
        x = self.pool2(F.relu(self.conv2(self.norm1(x))))  # (B, 32, 8, 8)
        x = self.pool3(F.relu(self.conv3(self.norm2(x))))  # (B, 64, 4, 4)
        return self.head(self.dropout(x.flatten(1)))  # (B, num_classes)


class CudaConvNetLocal(nn.Module):
    """The 11 % network: two convolutions, two locally connected layers, and one fully connected layer.

    Args:
        num_classes: size of the output; 0 gives the flattened feature maps of the last locally connected layer.
        in_channels: 1 for grey images, 3 for colour.
        image_size: height and width in pixels.
        crop: side in pixels of the central crop that the network sees. With random shifts by up to 4 px, the central
            24 px of a 32 px image are a random crop, so ``data.augment.shift=4`` gives the original augmentation.
        pixel_scale: factor by which images are multiplied before the first layer.
        dropout: probability in [0, 1) that an input of the head is set to zero; the original has no dropout.

    Raises:
        ZooError: crop is larger than the image, or too small to be pooled twice.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,
        crop: int = 24,
        pixel_scale: float = 64.0,
        dropout: Probability = 0.0,
    ):
        super().__init__()
        if not 4 <= crop <= image_size:
            raise ZooError(f"crop={crop} is not valid: give 4 to image_size={image_size}")
        self.border = (image_size - crop) // 2
        self.crop, self.pixel_scale = crop, pixel_scale
        side = crop // 4  # after two poolings: 3×3 with stride 2 and ceil_mode halves the size
        self.conv1 = conv(in_channels, 64, std=0.0001)
        self.norm1 = ResponseNorm(9, alpha=0.001 / 9, beta=0.75, k=1.0)  # cuda-convnet divides its scale by the size
        self.conv2 = conv(64, 64, std=0.01)
        self.norm2 = ResponseNorm(9, alpha=0.001 / 9, beta=0.75, k=1.0)
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.local3 = LocallyConnected2d(64, 64, side)
        self.local4 = LocallyConnected2d(64, 32, side)
        self.dropout = nn.Dropout(dropout)
        self.head = gaussian(make_head(32 * side**2, num_classes), std=0.01)

    def forward(self, x: Tensor) -> Tensor:  # sizes for a 24 px crop of 32 px: (B, 3, 32, 32)
        middle = slice(self.border, self.border + self.crop)
        x = self.pixel_scale * x[:, :, middle, middle]  # (B, 3, 24, 24)
        x = self.norm1(self.pool(F.relu(self.conv1(x))))  # (B, 64, 12, 12)
        x = self.pool(self.norm2(F.relu(self.conv2(x))))  # (B, 64, 6, 6)
        x = F.relu(self.local3(x))  # (B, 64, 6, 6)
        x = F.relu(self.local4(x))  # (B, 32, 6, 6)
        return self.head(self.dropout(x.flatten(1)))  # (B, num_classes)
