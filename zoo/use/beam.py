"""Prefix beam search for CTC, for a whole batch at a time, and the best alignment of a text.

Graves 2012, "Supervised sequence labelling with recurrent neural networks", section 7.5; Hannun et al. 2014,
"First-pass large vocabulary continuous speech recognition using bi-directional recurrent DNNs", algorithm 1.
"""

import torch
from torch import Tensor

from zoo.data.transcripts import BLANK
from zoo.errors import ZooError
from zoo.use.ngram import Graph

WIDEST = 1000
LOW = -1e30  # the logarithm of 0: finite, as the difference of two infinities is no number
PRIME = 1_000_003  # of the rolling hash of a prefix, modulo 2^64


def beam_search(log_probs: Tensor, steps: Tensor, width: int, graph: Graph | None = None) -> list[list[int]]:
    """The most probable texts, where a text's probability is the sum over its alignments, times the graph's score.

    Args:
        log_probs: (B, T, K).
        steps: the number of steps of each row, (B,).
        width: how many texts are kept at each step, 1 to 1000.
        graph: which tokens may follow, and their scores; None allows all.

    Returns:
        The token numbers of each row.
    """
    if not 1 <= width <= WIDEST:
        raise ZooError(f"task.beam={width} is not valid: 1 to {WIDEST}")
    log_probs = log_probs.cpu().double()
    b, t, k = log_probs.shape
    after_end = torch.arange(t) >= steps.cpu()[:, None]  # there only blanks are said, with probability 1
    blank_only = torch.full((k,), LOW, dtype=torch.float64)
    blank_only[BLANK] = 0
    log_probs = torch.where(after_end[..., None], blank_only, log_probs)
    # of each text: the log-probabilities of ending in a blank and in its last token, score, last token, hash, and state
    blank, token = torch.full((b, width), LOW, dtype=torch.float64), torch.full((b, width), LOW, dtype=torch.float64)
    blank[:, 0] = 0
    score = torch.zeros(b, width, dtype=torch.float64)
    last, prefix = torch.zeros(b, width, dtype=torch.int64), torch.zeros(b, width, dtype=torch.int64)
    prefix += torch.arange(width) * 7919  # the texts that nothing has reached yet are no prefixes of others
    state = torch.full((b, width), graph.start if graph else 0)
    came: list[tuple[Tensor, Tensor]] = []  # of each step, from which text each came and the token added, 0 for none
    for i in range(t):
        p = log_probs[:, i]  # (B, K)
        total = torch.logaddexp(blank, token)
        of_last = p.gather(1, last)  # (B, W)
        stay_blank, stay_token = total + p[:, :1], torch.where(last > 0, token + of_last, LOW)
        # a text and one of its tokens more: after the same token only from a blank
        same = torch.zeros(b, width, k, dtype=torch.bool).scatter_(2, last[..., None], True)
        more = torch.where(same, blank[..., None], total[..., None]) + p[:, None]  # (B, W, K)
        more[..., BLANK] = LOW
        # where text v is text w and v's last token, both are one text: (B, w, v)
        one = (prefix[:, :, None] * PRIME + last[:, None] == prefix[:, None]) & (last > 0)[:, None]
        reached = more.gather(2, last[:, None].expand(-1, width, -1))  # (B, w, v)
        stay_token = torch.logaddexp(stay_token, torch.where(one, reached, LOW).amax(1))
        taken = torch.zeros(b, width, k, dtype=torch.bool)
        taken.scatter_reduce_(2, last[:, None].expand(-1, width, -1), one, "amax")
        if graph is None:
            next_state, added = state[..., None].expand(-1, -1, k), torch.zeros(1, dtype=torch.float64)
        else:
            next_state, found = graph.step(state)
            added = found.double()
        new_score = (score[..., None] + added).expand(-1, -1, k)
        more = more.masked_fill(taken, LOW)
        ranks = torch.cat([torch.logaddexp(stay_blank, stay_token) + score, (more + new_score).flatten(1)], 1)
        best = ranks.topk(width, 1).indices  # (B, W)
        stays = best < width
        parent = torch.where(stays, best, (best - width) // k)
        said = torch.where(stays, 0, (best - width) % k)
        came.append((parent, said))
        flat = (best - width).clamp(min=0)
        token = torch.where(stays, stay_token.gather(1, parent), more.flatten(1).gather(1, flat))
        blank = torch.where(stays, stay_blank.gather(1, parent), LOW)
        score = torch.where(stays, score.gather(1, parent), new_score.flatten(1).gather(1, flat))
        state = torch.where(stays, state.gather(1, parent), next_state.flatten(1).gather(1, flat))
        old = prefix.gather(1, parent)
        prefix = torch.where(stays, old, old * PRIME + said)
        last = torch.where(stays, last.gather(1, parent), said)
    final = torch.logaddexp(blank, token) + score + (graph.end(state).double() if graph else 0)
    return traced(came, final.argmax(1))


def traced(came: list[tuple[Tensor, Tensor]], best: Tensor) -> list[list[int]]:
    """The tokens of one text of each row, by going back through the steps."""
    rows: list[Tensor] = []
    for parent, said in reversed(came):
        rows.append(said.gather(1, best[:, None])[:, 0])
        best = parent.gather(1, best[:, None])[:, 0]
    if not rows:
        return [[] for _ in best]
    steps = torch.stack(rows[::-1], 1)  # (B, T)
    return [row[row > 0].tolist() for row in steps]


def align(log_probs: Tensor, tokens: Tensor) -> Tensor:
    """The most probable alignment of tokens with the steps of one recording (the Viterbi algorithm; Graves et al. 2006,
    section 4.1 with the maximum in place of the sum).

    Args:
        log_probs: (T, K).
        tokens: int64 (L,).

    Returns:
        int64 (T,): for each step the position 0 … L − 1 in the text of the token said there; −1 for a blank.

    Raises:
        ZooError: there are fewer steps than the text needs.
    """
    n, t = len(tokens), len(log_probs)
    if n + int((tokens[1:] == tokens[:-1]).sum()) > t:
        raise ZooError(f"{n} tokens do not fit into {t} steps of the recording; give a shorter text")
    symbols = torch.full((2 * n + 1,), BLANK)
    symbols[1::2] = tokens
    skip = torch.zeros(2 * n + 1, dtype=torch.bool)  # a blank between different tokens may be left out
    skip[3::2] = tokens[1:] != tokens[:-1]
    emit = log_probs.cpu().double()[:, symbols]  # (T, 2 L + 1)
    best = torch.full((2 * n + 1,), LOW, dtype=torch.float64)
    best[:2] = emit[0, :2]
    back = []
    for i in range(1, t):
        one, two = torch.full_like(best, LOW), torch.full_like(best, LOW)
        one[1:], two[2:] = best[:-1], best[:-2]
        choice = torch.stack([best, one, torch.where(skip, two, LOW)])
        value, step = choice.max(0)
        back.append(step)
        best = value + emit[i]
    at = 2 * n - int(n > 0 and best[-2] > best[-1])
    path = [at]
    for step in reversed(back):
        at -= int(step[at])
        path.append(at)
    places = torch.tensor(path[::-1])
    return torch.where(places % 2 == 1, places // 2, -1)
