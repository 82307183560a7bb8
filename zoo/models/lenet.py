"""LeNet-5, in its common modern form and as published.

LeCun, Bottou, Bengio, Haffner: "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 86(11), 1998,
section II.B. ``LeNet5`` has its layout and layer sizes with modern components (ReLU, max pooling, full connections and
a softmax output) and 61,706 parameters. ``LeNet5_1998`` is the network of the paper, with trainable subsampling,
partial connections in C3, scaled tanh and Euclidean RBF outputs, and 60,000 trainable parameters.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.arguments import Positive, Probability
from zoo.layers import Init, ScaledTanh, initialise, make_activation, make_head, make_pool


class Subsample(nn.Module):
    """S2 and S4: the sum of 2×2 neighbours, times a trainable coefficient per map, plus a trainable bias per map."""

    def __init__(self, channels: Positive):
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), 0.25))  # starts as the average
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H/2, W/2)
        return 4 * F.avg_pool2d(x, 2) * self.weight[:, None, None] + self.bias[:, None, None]


class PartialConv2d(nn.Module):
    """A 5×5 convolution in which each output map sees only the input maps listed for it.

    Only the kernels of existing connections are parameters; the forward pass inserts them into a dense kernel of zeros.
    """

    def __init__(self, in_channels: int, sources: Sequence[Sequence[int]], kernel_size: int = 5):
        super().__init__()
        pairs = [(o, i) for o, maps in enumerate(sources) for i in maps]
        self.out_index: Tensor
        self.in_index: Tensor
        self.register_buffer("out_index", torch.tensor([o for o, _ in pairs]), persistent=False)
        self.register_buffer("in_index", torch.tensor([i for _, i in pairs]), persistent=False)
        self.shape = (len(sources), in_channels, kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.empty(len(pairs), kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(len(sources)))
        for (o, _), kernel in zip(pairs, self.weight, strict=True):
            nn.init.uniform_(kernel, *fan_in_range(len(sources[o]) * kernel_size**2))

    def forward(self, x: Tensor) -> Tensor:  # (B, 6, 14, 14) -> (B, 16, 10, 10)
        dense = self.weight.new_zeros(self.shape).index_put((self.out_index, self.in_index), self.weight)
        return F.conv2d(x, dense, self.bias)


class RBF(nn.Module):
    """Euclidean radial basis function outputs (equation 7): y_i = Σ_j (x_j − w_ij)², with fixed codes w of ±1.

    Returns −y, so that the largest output is the predicted class, as with logits; the paper's loss for it is
    ``zoo.tasks.losses.MAPLoss``.
    """

    def __init__(self, codes: Tensor):
        super().__init__()
        self.codes: Tensor
        self.register_buffer("codes", codes)

    def forward(self, x: Tensor) -> Tensor:  # (B, 84) -> (B, classes)
        return -(x.unsqueeze(1) - self.codes).square().sum(-1)


# Table I: which of the six maps of S2 each of C3's 16 maps is connected to.
C3_SOURCES = (
    [[i % 6, (i + 1) % 6, (i + 2) % 6] for i in range(6)]
    + [[i % 6, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6] for i in range(6)]
    + [[0, 1, 3, 4], [1, 2, 4, 5], [0, 2, 3, 5]]
    + [[0, 1, 2, 3, 4, 5]]
)

# Stylised 7×12 pictures of the digits in the manner of figure 3; each is the code of its class in F6's 84 units.
DIGITS = """
.......  .......  .......  .......  .......  .......  .......  .......  .......  .......
..###..  ...##..  .#####.  .#####.  ....##.  #######  ..####.  #######  .#####.  .#####.
.#...#.  .####..  ##...##  ##...##  ...###.  ##.....  .##....  ##...##  ##...##  ##...##
##...##  ...##..  .....##  .....##  ..####.  ##.....  ##.....  .....##  ##...##  ##...##
##...##  ...##..  ....##.  .....##  .##.##.  ######.  ##.....  ....##.  .##.##.  ##...##
##...##  ...##..  ...##..  ..####.  ##..##.  .....##  ######.  ....##.  .#####.  ##...##
##...##  ...##..  ..##...  .....##  #######  .....##  ##...##  ...##..  ##...##  .######
##...##  ...##..  .##....  .....##  ....##.  .....##  ##...##  ...##..  ##...##  .....##
.#...#.  ...##..  ##.....  ##...##  ....##.  ##...##  ##...##  ..##...  ##...##  ....##.
..###..  .######  #######  .#####.  ....##.  .#####.  .#####.  ..##...  .#####.  .####..
.......  .......  .......  .......  .......  .......  .......  .......  .......  .......
.......  .......  .......  .......  .......  .......  .......  .......  .......  .......
"""


def digit_codes() -> Tensor:
    """The ten digits' bitmaps as codes, shape (10, 84), +1 for ink and −1 for paper."""
    rows = [line.split() for line in DIGITS.split("\n") if line]
    codes = [[1.0 if pixel == "#" else -1.0 for row in rows for pixel in row[digit]] for digit in range(10)]
    return torch.tensor(codes)


def fan_in_range(fan_in: int) -> tuple[float, float]:
    """The range of the uniform initial weights, ±2.4 / fan-in (appendix A)."""
    return -2.4 / fan_in, 2.4 / fan_in


class LeNet5(nn.Module):
    """Two convolutions with pooling, then fully connected layers.

    Args:
        num_classes: size of the output; 0 gives the last hidden layer's features.
        in_channels: 1 for grey images, 3 for colour.
        image_size: height and width in pixels; images under 32 px are zero-padded to 32 px, the paper's input size, or
            to 33 px if image_size is odd.
        channels: feature maps of the two convolutions.
        hidden: widths of the fully connected layers.
        activation: a name from ``zoo.layers.ACTIVATIONS``.
        pool: a name from ``zoo.layers.POOLS``.
        dropout: probability in [0, 1) that an input of a fully connected layer is set to zero.
        batch_norm: normalise after each convolution.
        init: initial weights of the layers before an activation, "he" or "torch"; see ``zoo.layers.initialise``.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int = 28,
        channels: tuple[Positive, int] = (6, 16),
        hidden: Sequence[Positive] = (120, 84),
        activation: str = "relu",
        pool: str = "max",
        dropout: Probability = 0.0,
        batch_norm: bool = False,
        init: Init = "he",
    ):
        super().__init__()
        padding = max(0, (32 - image_size + 1) // 2)
        c1, c2 = channels
        self.conv1 = nn.Conv2d(in_channels, c1, 5, padding=padding, bias=not batch_norm)
        self.norm1 = nn.BatchNorm2d(c1) if batch_norm else nn.Identity()
        self.act1 = make_activation(activation)
        self.pool1 = make_pool(pool, 2)
        self.conv2 = nn.Conv2d(c1, c2, 5, bias=not batch_norm)
        self.norm2 = nn.BatchNorm2d(c2) if batch_norm else nn.Identity()
        self.act2 = make_activation(activation)
        self.pool2 = make_pool(pool, 2)

        side = ((image_size + 2 * padding - 4) // 2 - 4) // 2
        width = c2 * side**2
        self.fc = nn.Sequential()
        for i, units in enumerate(hidden, 1):
            self.fc.add_module(f"drop{i}", nn.Dropout(dropout))
            self.fc.add_module(f"fc{i}", nn.Linear(width, units))
            self.fc.add_module(f"act{i}", make_activation(activation))
            width = units
        initialise([self.conv1, self.conv2, *self.fc], init, activation)
        self.head = make_head(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # sizes for the default 28 px: (B, 1, 28, 28)
        x = self.pool1(self.act1(self.norm1(self.conv1(x))))  # (B, 6, 14, 14)
        x = self.pool2(self.act2(self.norm2(self.conv2(x))))  # (B, 16, 5, 5)
        x = self.fc(x.flatten(1))  # (B, 84)
        return self.head(x)  # (B, num_classes)


class LeNet5_1998(nn.Module):
    """The network as published. 28 px images are padded to 32 px by repeating their border pixels, MNIST's background.

    Args:
        num_classes: for 10 classes the output codes are bitmaps of the digits, otherwise fixed random codes of ±1,
            which section II.B calls equally possible; 0 gives the features of layer F6.
        in_channels: number of image channels; 1 in the paper.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1):
        super().__init__()
        self.c1 = nn.Conv2d(in_channels, 6, 5)
        self.s2 = Subsample(6)
        self.c3 = PartialConv2d(6, C3_SOURCES)
        self.s4 = Subsample(16)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.act = ScaledTanh()
        if num_classes == 0:
            self.head = nn.Identity()
        elif num_classes == 10:
            self.head = RBF(digit_codes())
        else:
            generator = torch.Generator().manual_seed(num_classes)
            self.head = RBF(torch.randint(0, 2, (num_classes, 84), generator=generator) * 2.0 - 1.0)
        for layer in (self.c1, self.c5, self.f6):
            nn.init.uniform_(layer.weight, *fan_in_range(layer.weight[0].numel()))
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] == 28:
            x = F.pad(x, (2, 2, 2, 2), mode="replicate")  # (B, 1, 32, 32)
        x = self.act(self.c1(x))  # (B, 6, 28, 28)
        x = self.act(self.s2(x))  # (B, 6, 14, 14)
        x = self.act(self.c3(x))  # (B, 16, 10, 10)
        x = self.act(self.s4(x))  # (B, 16, 5, 5)
        x = self.act(self.c5(x)).flatten(1)  # (B, 120)
        x = self.act(self.f6(x))  # (B, 84)
        return self.head(x)  # (B, num_classes)
