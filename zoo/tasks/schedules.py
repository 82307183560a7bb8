"""Learning-rate schedules that torch.optim.lr_scheduler does not have."""

import math

from torch.optim.lr_scheduler import LambdaLR
from torch.optim.optimizer import Optimizer

from zoo.arguments import Probability


def warmup_cosine(optimizer: Optimizer, total_steps: int, warmup: Probability = 0.1) -> LambdaLR:
    """Linear from lr / n to lr in the first n steps, the fraction ``warmup`` of all, then half a cosine to 0."""
    rising = max(1, round(warmup * total_steps))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total_steps - rising)))

    return LambdaLR(optimizer, factor)


def triangle(
    optimizer: Optimizer, total_steps: int, start: float = 0.2, peak: float = 0.23, end: float = 0.07
) -> LambdaLR:
    """Linear from ``start`` × lr to lr at the fraction ``peak`` of all steps, then linear down to ``end`` × lr."""
    top = max(1.0, peak * total_steps)

    def factor(step: int) -> float:
        if step < top:
            return start + (1 - start) * step / top
        return 1 + (end - 1) * min(1.0, (step - top) / max(1.0, total_steps - top))

    return LambdaLR(optimizer, factor)
