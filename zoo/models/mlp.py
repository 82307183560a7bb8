"""Fully connected feedforward networks: softmax regression and the multilayer perceptron.

Russell & Norvig, 4th ed., section 22.1: h(x) = g2(W2 g1(W1 x)), here for any depth. Dropout is applied where
Srivastava et al. 2014 ("Dropout", section 4) put it: on the input and after each hidden activation. Their max-norm
constraint is applied after each update, not in the forward pass, so it belongs to the task (``task.max_norm``).
"""

from collections.abc import Sequence

from torch import Tensor, nn

from zoo.arguments import Positive, Probability
from zoo.layers import Init, initialise, make_activation, make_head


class MLP(nn.Module):
    """Layers of (linear, batch norm, activation, dropout), then a linear head.

    Args:
        num_classes: size of the output; 0 gives the last hidden layer's features.
        in_channels, image_size: the input is flattened to in_channels × image_size² features.
        hidden: widths of any number of hidden layers; with none, it is softmax regression (the softmax is in the loss).
        activation: a name from ``zoo.layers.ACTIVATIONS``.
        input_dropout, dropout: probabilities in [0, 1) that an input / a hidden unit is set to zero.
        batch_norm: normalise before each activation.
        init: initial weights of the layers before an activation, "he" or "torch"; see ``zoo.layers.initialise``.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int = 28,
        hidden: Sequence[Positive] = (512, 512),
        activation: str = "relu",
        input_dropout: Probability = 0.0,
        dropout: Probability = 0.0,
        batch_norm: bool = False,
        init: Init = "he",
    ):
        super().__init__()
        self.flatten = nn.Flatten()
        self.input_dropout = nn.Dropout(input_dropout)
        self.layers = nn.Sequential()
        width = in_channels * image_size**2
        for i, units in enumerate(hidden, 1):
            # without a bias before batch norm, which has its own
            self.layers.add_module(f"fc{i}", nn.Linear(width, units, bias=not batch_norm))
            if batch_norm:
                self.layers.add_module(f"norm{i}", nn.BatchNorm1d(units))
            self.layers.add_module(f"act{i}", make_activation(activation))
            self.layers.add_module(f"drop{i}", nn.Dropout(dropout))
            width = units
        initialise(self.layers, init, activation)
        self.head = make_head(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.input_dropout(self.flatten(x))  # (B, C, H, W) -> (B, C·H·W)
        x = self.layers(x)  # (B, hidden[-1])
        return self.head(x)  # (B, num_classes)
