"""Search for the most probable translation: greedily, or with a beam (Wu et al. 2016, section 7). All of it is batched.

A translation of a source sentence of n tokens has at most 2 n + 10 tokens, whatever the other sentences of its batch.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from zoo.contracts import Translator
from zoo.data.joint import END, PAD


class Found(NamedTuple):
    """The best translation of each sentence.

    Attributes:
        tokens: int64 (B, L), without the language's token, with ``END`` and then padding.
        scores: the log-probability of each, normalised by ``score`` for a beam, (B,).
    """

    tokens: Tensor
    scores: Tensor


def limits(source: Tensor) -> Tensor:
    """The largest number of tokens of each translation, (B,)."""
    return 2 * (source != PAD).sum(1) + 10


def next_tokens(logits: Tensor, last: Tensor) -> Tensor:
    """Log-probabilities of the next token (N, V), where only ``END`` may follow in the rows that ``last`` marks, and
    padding never.
    """
    logp = logits.float().log_softmax(-1)
    logp[:, PAD] = -torch.inf
    ended = torch.full_like(logp, -torch.inf)
    ended[:, END] = logp[:, END]
    return torch.where(last[:, None], ended, logp)


@torch.no_grad()
def greedy(model: Translator, source: Tensor, start: int) -> Found:
    """Take the most probable token at each step.

    Args:
        model: in eval mode.
        source: tokens, int64 (B, S).
        start: the token of the target language.
    """
    memory, most = model.read(source), limits(source)
    token, state = source.new_full((len(source), 1), start), None
    done, scores, tokens = torch.zeros_like(most, dtype=torch.bool), torch.zeros(len(source), device=source.device), []
    while not bool(done.all()):
        out = model.write(token, memory, state)
        logp, best = next_tokens(out.logits[:, -1], most == len(tokens) + 1).max(-1)
        scores = scores + logp.masked_fill(done, 0.0)
        tokens.append(best.masked_fill(done, PAD))
        done = done | (best == END)
        token, state = best[:, None], out.state
    return Found(torch.stack(tokens, 1), scores)


def score(logp: Tensor, length: Tensor | int, coverage: Tensor, mask: Tensor, alpha: float, beta: float) -> Tensor:
    """s = log P / lp + cp (Wu et al. 2016, equation 14).

    lp = (5 + length)^alpha / (5 + 1)^alpha makes up for the lower probability of long translations;
    cp = beta Σ log(min(coverage, 1)), over the source tokens, punishes those that no step looked at.

    Args:
        logp: log-probabilities, of any shape (…).
        length: numbers of tokens with ``END``, (…) or one for all.
        coverage: the sum of the attention of all steps to each source token, (…, S).
        mask: True for tokens and False for padding, (…, S).
        alpha, beta: 0 or more; with 0 for both, s is log P.
    """
    penalty = ((5 + torch.as_tensor(length, device=logp.device)) / 6) ** alpha
    covered = coverage.clamp(1e-9, 1.0).log().masked_fill(~mask, 0.0).sum(-1)
    return logp / penalty + beta * covered


@torch.no_grad()
def beam_search(
    model: Translator, source: Tensor, start: int, beam: int = 5, alpha: float = 1.0, beta: float = 0.0
) -> Found:
    """Keep the ``beam`` most probable beginnings of each translation, and choose the best of as many whole ones.

    A beginning that takes ``END`` among the ``beam`` best continuations is whole; a sentence is finished when it has
    ``beam`` whole translations. With beam=1 the translations are those of ``greedy``.

    Args:
        model: in eval mode.
        source: tokens, int64 (B, S).
        start: the token of the target language.
        beam: number of beginnings, 1 or more.
        alpha, beta: see ``score``.
    """
    n, width, device = len(source), source.shape[1], source.device
    most = limits(source)
    memory = model.read(source)
    memory = memory._make(part.repeat_interleave(beam, 0) for part in memory)  # (B·K, …)
    mask = memory.mask.view(n, beam, width)
    rows = torch.arange(n, device=device)[:, None] * beam  # the first row of each sentence
    logp = torch.full((n, beam), -torch.inf, device=device)
    logp[:, 0] = 0.0  # all beginnings are equal at first, so only one counts
    token, state = source.new_full((n * beam, 1), start), None
    tokens = source.new_zeros(n, beam, 0)
    coverage = torch.zeros(n, beam, width, device=device)
    whole = torch.full((n, beam), -torch.inf, device=device)  # scores of whole translations, the best first
    kept = source.new_zeros(n, beam, 0)
    count = torch.zeros(n, dtype=torch.int64, device=device)
    step = 0
    while not bool((count >= beam).all() or (step >= most).all()):
        step += 1
        out = model.write(token, memory, state)
        coverage = coverage + out.attention[:, -1].float().view(n, beam, width)
        going = next_tokens(out.logits[:, -1], (most <= step).repeat_interleave(beam)).view(n, beam, -1)
        vocabulary = going.shape[-1]
        # of 2 K candidates at most K are whole, so K go on
        found, at = (logp[..., None] + going).flatten(1).topk(min(2 * beam, beam * vocabulary), 1)  # (B, 2K)
        parent, token = at // vocabulary, at % vocabulary
        ends = token == END
        reached = torch.cat([tokens, tokens.new_zeros(n, beam, 1)], -1)
        reached = reached.gather(1, parent[..., None].expand(-1, -1, step)).clone()  # (B, 2K, step)
        reached[..., -1] = token
        seen = coverage.gather(1, parent[..., None].expand(-1, -1, width))  # (B, 2K, S)

        valid = ends & found.isfinite() & (count < beam)[:, None]
        valid[:, beam:] = False  # only those among the K best
        ours = mask.gather(1, parent[..., None].expand(-1, -1, width))
        scores = score(found, step, seen, ours, alpha, beta).masked_fill(~valid, -torch.inf)
        pool = torch.cat([torch.cat([kept, kept.new_zeros(n, beam, 1)], -1), reached], 1)  # (B, 3K, step)
        whole, best = torch.cat([whole, scores], 1).topk(beam, 1)
        kept = pool.gather(1, best[..., None].expand(-1, -1, step))
        count = count + valid.sum(1)

        logp, going_on = found.masked_fill(ends, -torch.inf).topk(beam, 1)  # (B, K)
        tokens = reached.gather(1, going_on[..., None].expand(-1, -1, step))
        coverage = seen.gather(1, going_on[..., None].expand(-1, -1, width))
        chosen = (rows + parent.gather(1, going_on)).flatten()  # rows of the batch that go on
        token = tokens[..., -1].reshape(-1, 1)
        state = [tuple(part[chosen] for part in layer) for layer in out.state]
    return Found(kept[:, 0], whole[:, 0])
