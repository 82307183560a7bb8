"""Vectors of the tokens of two languages in one space, from sentences that are no translations of each other.

Each language gets vectors of its own: the positive pointwise mutual information of tokens that occur near each other,
factorised (Levy & Goldberg 2014, "Neural Word Embedding as Implicit Matrix Factorization"). They are then mapped into
one space as by Artetxe et al. 2018, "Generalizing and Improving Bilingual Word Embedding Mappings with a Multi-Step
Framework of Linear Transformations". No dictionary is needed: the first pairs are tokens that both languages write in
the same way and use about equally often (as names, numbers and punctuation are); further pairs are mutual nearest
neighbours (Conneau et al. 2018, "Word Translation Without Parallel Data").
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from zoo.errors import ZooError

RARE = 0.02  # how much the similarity falls with the difference of the logarithms of two tokens' frequencies


class Aligned(NamedTuple):
    """Two languages in one space. A row of zeros belongs to a token that the language does not have.

    Attributes:
        vectors: of the tokens of the first and of the second language, (V, D) each, with length 1 or 0.
        translation: the most similar token of the other language, for tokens of the first and of the second, (V,)
            each; a token that a language does not have stays as it is.
    """

    vectors: tuple[Tensor, Tensor]
    translation: tuple[Tensor, Tensor]


def align(first: Tensor, second: Tensor, vocab_size: int, special: int, dim: int = 100, window: int = 5) -> Aligned:
    """Map the tokens of two languages into one space.

    Args:
        first, second: sentences of the two languages as tokens, int64 (N, L) and (M, K), padded.
        vocab_size: number of different tokens of both languages, V.
        special: tokens below this number are no words; they have no vectors.
        dim: size of the vectors, D.
        window: number of tokens before and after a token that count as near it.

    Raises:
        ZooError: the languages have too few tokens, or too few tokens in common.
    """
    counts = [torch.bincount(x.flatten(), minlength=vocab_size).float() for x in (first, second)]
    for count in counts:
        count[:special] = 0
    raw = [vectors(x, count, special, dim, window) for x, count in zip((first, second), counts, strict=True)]
    logs = [(count / count.sum()).clamp(min=1e-9).log() for count in counts]
    known = [(count >= 4).nonzero()[:, 0] for count in counts]  # rare tokens have no reliable vectors
    x, y = (vector[at] for vector, at in zip(raw, known, strict=True))
    apart = RARE * (logs[0][known[0]][:, None] - logs[1][known[1]][None]).abs()  # (n, m)
    pairs = alike(known, logs)
    if len(pairs[0]) < 20:
        raise ZooError(
            f"the two languages write only {len(pairs[0])} tokens alike, and 20 are needed to align them: give more "
            "text, or do without: task.align=false task.word_by_word=0"
        )
    common = pairs
    for _ in range(6):
        a, b = mapped(x, y, *pairs)
        similar = csls(a, b) - apart
        there, back = similar.argmax(1), similar.argmax(0)
        mutual = (back[there] == torch.arange(len(there))).nonzero()[:, 0]
        pairs = torch.cat([mutual, common[0]]), torch.cat([there[mutual], common[1]])
    space, translation = [], []
    for vector, at, other, best in ((a, known[0], known[1], there), (b, known[1], known[0], back)):
        space.append(torch.zeros(vocab_size, dim).index_copy(0, at, vector))
        translation.append(torch.arange(vocab_size).index_copy(0, at, other[best]))
    return Aligned((space[0], space[1]), (translation[0], translation[1]))


def vectors(x: Tensor, count: Tensor, special: int, dim: int, window: int) -> Tensor:
    """Vectors of the tokens of a language, (V, D): U √S of the positive pointwise mutual information U S Vᵀ.

    Args:
        x: sentences, int64 (N, L).
        count: how often each token occurs, (V,).
    """
    size, rows, columns, near = len(count), [], [], []
    for distance in range(1, window + 1):
        a, b = x[:, :-distance], x[:, distance:]
        words = (a >= special) & (b >= special)
        rows += [a[words], b[words]]
        columns += [b[words], a[words]]
        near += [torch.full((int(words.sum()),), 1.0 / distance)] * 2  # nearer tokens say more about each other
    where = torch.stack([torch.cat(rows), torch.cat(columns)])
    together = sparse(where, torch.cat(near), size).coalesce()
    (row, column), weight = together.indices(), together.values()
    total = weight.sum()
    of_row = torch.zeros(size).index_add(0, row, weight) / total
    of_column = (of_row * total) ** 0.75  # rare neighbours would have too much information (Levy et al. 2015, 3.2)
    of_column = of_column / of_column.sum()
    information = (weight / total / (of_row[row] * of_column[column])).log().clamp(min=0)
    matrix = sparse(together.indices(), information, size).coalesce()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        u, s, _ = torch.svd_lowrank(matrix, q=dim + 20, niter=6)
    found = u[:, :dim] * s[:dim].sqrt()
    found[count == 0] = 0
    present = count > 0
    found[present] = normalize(normalize(found[present]) - normalize(found[present]).mean(0))
    return found


def sparse(where: Tensor, values: Tensor, size: int) -> Tensor:
    return torch.sparse_coo_tensor(where, values, (size, size), check_invariants=False)


def alike(known: list[Tensor], logs: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Tokens that both languages have, and use about equally often: their places in the two lists of known tokens."""
    same = (known[0][:, None] == known[1][None]).nonzero()
    tokens = known[0][same[:, 0]]
    same = same[(logs[0][tokens] - logs[1][tokens]).abs() < 1.4]  # e^1.4 = 4 times as often at most
    return same[:, 0], same[:, 1]


def mapped(x: Tensor, y: Tensor, at: Tensor, to: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors of two languages in one space, learned from the pairs (at, to): Artetxe et al. 2018, sections 4.1 to 4.4.

    Whitening, an orthogonal map, re-weighting of the directions by the square roots of their correlations, and
    de-whitening.
    """
    white, colour = zip(*(whiten(side) for side in (x[at], y[to])), strict=True)
    u, s, vt = torch.linalg.svd((x[at] @ white[0]).T @ (y[to] @ white[1]))
    a = x @ white[0] @ u * s.sqrt() @ (u.T @ colour[0] @ u)
    b = y @ white[1] @ vt.T * s.sqrt() @ (vt @ colour[1] @ vt.T)
    return normalize(a), normalize(b)


def whiten(x: Tensor) -> tuple[Tensor, Tensor]:
    """The matrices (XᵀX)^(−1/2) and (XᵀX)^(1/2), (D, D) each."""
    _, s, vt = torch.linalg.svd(x, full_matrices=False)
    s = s.clamp(min=float(s[0]) * 1e-3)  # directions that the pairs do not have
    return vt.T / s @ vt, vt.T * s @ vt


def csls(a: Tensor, b: Tensor, k: int = 10) -> Tensor:
    """Cross-domain similarity local scaling, (n, m): 2 cos(a, b) minus the mean similarity of each to its k nearest
    neighbours in the other language, so that no token is near to all others (Conneau et al. 2018, section 2.3).
    """
    cosine = a @ b.T
    k = min(k, *cosine.shape)
    return 2 * cosine - cosine.topk(k, 1).values.mean(1)[:, None] - cosine.topk(k, 0).values.mean(0)
