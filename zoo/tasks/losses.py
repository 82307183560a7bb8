"""Losses that torch.nn does not have."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ZooError


class MAPLoss(nn.Module):
    """The discriminative loss of LeNet-5's RBF outputs: LeCun et al. 1998, equation 9.

    E = mean over images of y_D + log(e^(−j) + Σ_i e^(−y_i)), with y_i the penalty of class i and D the right class.
    With outputs −y (as ``LeNet5_1998`` gives them) it is the cross-entropy over the classes and one more class,
    "rubbish", whose penalty is the constant j. It keeps penalties that are already large from being pushed up.

    Args:
        j: the penalty of the rubbish class, above 0.
    """

    def __init__(self, j: float = 1.0):
        super().__init__()
        self.j = j

    def forward(self, output: Tensor, target: Tensor) -> Tensor:  # (B, classes), (B,) -> ()
        if target.ndim != 1:
            raise ZooError("task/loss=map takes one label per image: leave data.augment.mixup and cutmix at 0")
        rubbish = output.new_full((len(output), 1), -self.j)
        return F.cross_entropy(torch.cat([output, rubbish], dim=1), target)
