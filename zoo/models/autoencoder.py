"""Autoencoders: an encoder to a short code z = f(x), and a decoder back to the input, x̂ = g(z) (lecture 16.7).

A fully connected one, as in Hinton & Salakhutdinov 2006 and Vincent et al. 2010, and a convolutional one. Denoising,
sparse and contractive autoencoders differ only in their objective: see ``zoo.tasks.reconstruct``. The encoder's layers
have the same names as those of ``zoo.models.mlp.MLP``; ``init.rename={encoder: layers}`` loads them into a classifier.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.arguments import Positive
from zoo.errors import ZooError
from zoo.layers import Init, initialise, make_activation


class Output(nn.Module):
    """The activation of the reconstruction, in 32 bits: in bfloat16 a sigmoid rounds to 1 for log-odds from 6.25 on."""

    def __init__(self, activation: str):
        super().__init__()
        self.activation = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(x.float())


class Transposed(nn.Module):
    """Wᵀ z + b with the matrix W of another layer and its own bias b.

    Args:
        layer: the layer with the matrix; it is not registered as a submodule, so its weights are counted only once.
    """

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.matrix = [layer]  # in a list, so that torch does not register it
        self.bias = nn.Parameter(layer.weight.new_zeros(layer.in_features))

    def forward(self, z: Tensor) -> Tensor:
        return F.linear(z, self.matrix[0].weight.T, self.bias)


class Autoencoder(nn.Module):
    """Fully connected: in_channels × image_size² inputs, hidden layers and the code; the decoder mirrors the encoder.

    Args:
        in_channels, image_size: shape of the images, with pixels in [0, 1] if ``output`` is sigmoid.
        hidden: widths of the encoder's layers before the code; the decoder has them in reverse.
        code: size of the code.
        activation: activation of the hidden layers, a name from ``zoo.layers.ACTIVATIONS``.
        code_activation: activation of the code; identity makes it linear, as in PCA.
        output: activation of the reconstruction.
        tied: use the encoder's transposed matrices in the decoder, with separate biases.
        init: initial weights of the layers before an activation, "he" or "torch"; see ``zoo.layers.initialise``.
    """

    def __init__(
        self,
        in_channels: int = 1,
        image_size: int = 28,
        hidden: Sequence[Positive] = (512, 256),
        code: Positive = 32,
        activation: str = "relu",
        code_activation: str = "identity",
        output: str = "sigmoid",
        tied: bool = False,
        init: Init = "he",
    ):
        super().__init__()
        self.shape = (in_channels, image_size, image_size)
        widths = [in_channels * image_size**2, *hidden, code]
        depth = len(widths) - 1
        self.encoder, self.decoder = nn.Sequential(), nn.Sequential()
        for i in range(depth):
            self.encoder.add_module(f"fc{i + 1}", nn.Linear(widths[i], widths[i + 1]))
            self.encoder.add_module(f"act{i + 1}", make_activation(activation if i < depth - 1 else code_activation))
        for i in reversed(range(depth)):
            forward = self.encoder.get_submodule(f"fc{i + 1}")
            layer = Transposed(forward) if tied else nn.Linear(widths[i + 1], widths[i])  # type: ignore[arg-type]
            self.decoder.add_module(f"fc{i + 1}", layer)
            self.decoder.add_module(f"act{i + 1}", make_activation(activation) if i else Output(output))
        initialise([*self.encoder[:-2], *self.decoder[:-2]], init, activation)
        initialise(self.encoder[-2:], init, code_activation)

    def depth(self) -> int:
        """The number of layers of the encoder."""
        return sum(isinstance(part, nn.Linear) for part in self.encoder)

    def layer(self, i: int) -> tuple[nn.Sequential, nn.Sequential, nn.Sequential]:
        """Layer i of the encoder, from 0 to the number of hidden layers, as three modules: all layers before it, the
        layer itself (linear and activation), and the decoder's layer that mirrors it.
        """
        j = len(self.encoder) - 2 * (i + 1)
        return self.encoder[: 2 * i], self.encoder[2 * i : 2 * i + 2], self.decoder[j : j + 2]

    def encode(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to codes (B, code)."""
        return self.encoder(x.flatten(1))

    def decode(self, z: Tensor) -> Tensor:
        """Codes (B, code) to images (B, C, H, W)."""
        return self.decoder(z).unflatten(1, self.shape)

    def forward(self, x: Tensor) -> Tensor:
        """The reconstruction of images, (B, C, H, W)."""
        return self.decode(self.encode(x))


class ConvAutoencoder(nn.Module):
    """Convolutional: each encoder stage halves the image size, and a linear layer gives the code; the decoder mirrors
    this with transposed convolutions.

    Args:
        in_channels, image_size: shape of the images; image_size must be divisible by 2 once per stage.
        channels: feature maps of each stage.
        code: size of the code.
        activation: activation of the stages.
        output: activation of the reconstruction.
        init: initial weights of the layers before an activation, "he" or "torch"; see ``zoo.layers.initialise``.
    """

    def __init__(
        self,
        in_channels: int = 1,
        image_size: int = 28,
        channels: Sequence[Positive] = (32, 64),
        code: Positive = 32,
        activation: str = "relu",
        output: str = "sigmoid",
        init: Init = "he",
    ):
        super().__init__()
        side, odd = divmod(image_size, 2 ** len(channels))
        if odd or not side:
            raise ZooError(f"channels has {len(channels)} stages, and {image_size} px cannot be halved so often")
        maps = [in_channels, *channels]
        self.encoder, self.decoder = nn.Sequential(), nn.Sequential()
        for i in range(len(channels)):
            self.encoder.add_module(f"conv{i + 1}", nn.Conv2d(maps[i], maps[i + 1], 4, stride=2, padding=1))
            self.encoder.add_module(f"act{i + 1}", make_activation(activation))
        self.encoder.add_module("flatten", nn.Flatten())
        self.encoder.add_module("code", nn.Linear(maps[-1] * side**2, code))
        self.decoder.add_module("code", nn.Linear(code, maps[-1] * side**2))
        self.decoder.add_module("act", make_activation(activation))
        self.decoder.add_module("unflatten", nn.Unflatten(1, (maps[-1], side, side)))
        for i in reversed(range(len(channels))):
            self.decoder.add_module(f"conv{i + 1}", nn.ConvTranspose2d(maps[i + 1], maps[i], 4, stride=2, padding=1))
            self.decoder.add_module(f"act{i + 1}", make_activation(activation) if i else Output(output))
        initialise([*self.encoder[:-1], *self.decoder[:-2]], init, activation)

    def encode(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to codes (B, code)."""
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """Codes (B, code) to images (B, C, H, W)."""
        return self.decoder(z)

    def forward(self, x: Tensor) -> Tensor:
        """The reconstruction of images, (B, C, H, W)."""
        return self.decode(self.encode(x))
