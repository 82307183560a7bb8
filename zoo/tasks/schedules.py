"""Learning-rate schedules that torch.optim.lr_scheduler does not have."""

import math

from torch.optim.lr_scheduler import LambdaLR
from torch.optim.optimizer import Optimizer


def warmup_cosine(optimizer: Optimizer, total_steps: int, warmup: float = 0.1) -> LambdaLR:
    """Linear from 0 over the first share ``warmup`` of the steps, then half a cosine down to 0."""
    rising = max(1, round(warmup * total_steps))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total_steps - rising)))

    return LambdaLR(optimizer, factor)
