"""The most probable token of each step, and when it is said."""

import torch
from torch import Tensor

from zoo.data.transcripts import BLANK


def greedy(log_probs: Tensor, steps: Tensor) -> list[list[int]]:
    """The best path of CTC (Graves et al. 2006, section 3.2): the most probable token of each step, without repetitions
    and blanks.

    Args:
        log_probs: (B, T, K).
        steps: the number of steps of each row, (B,).

    Returns:
        The token numbers of each row.
    """
    best, kept = best_path(log_probs, steps)
    return [row[keep].tolist() for row, keep in zip(best.cpu(), kept.cpu(), strict=True)]


def best_path(log_probs: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """The most probable token of each step, int64 (B, T), and at which steps a new one begins, bool (B, T)."""
    best = log_probs.argmax(2)
    inside = torch.arange(best.shape[1], device=best.device) < steps.to(best.device)[:, None]
    new = torch.ones_like(inside)
    new[:, 1:] = best[:, 1:] != best[:, :-1]
    return best, new & inside & (best != BLANK)
