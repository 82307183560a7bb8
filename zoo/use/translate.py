"""Translate sentences with a trained model, and draw where it looks."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from matplotlib import font_manager
from matplotlib.figure import Figure
from torch import Tensor

from zoo.contracts import Translator, preprocess_of
from zoo.data.joint import END, JointTokens
from zoo.errors import ZooError
from zoo.tasks.beam import beam_search

# Fonts for Korean, Chinese and Japanese of Linux, Windows and macOS; matplotlib's own has no such letters
EAST_ASIAN = (
    "Noto Sans CJK KR",
    "Noto Sans CJK JP",
    "NanumGothic",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
    "AppleGothic",
)


def tokens_of(model: Any) -> JointTokens:
    """The tokens of a trained model that translates.

    Raises:
        ZooError: the model does not translate.
    """
    tokens = preprocess_of(model)
    if not isinstance(model, Translator) or not isinstance(tokens, JointTokens):
        raise ZooError("this model does not translate; give a model of task=translate (zoo list --task translate)")
    return tokens


def translate(model: Any, sentences: Sequence[str], beam: int = 5, alpha: float = 1.0, beta: float = 0.0) -> list[str]:
    """Translate sentences, all in one batch; an empty sentence stays empty.

    Args:
        model: as returned by ``zoo.load``.
        sentences: any number of them, each without line ends.
        beam, alpha, beta: of the search; see ``zoo.tasks.beam.beam_search``.

    Raises:
        ZooError: the model does not translate.
    """
    tokens = tokens_of(model)
    filled = [i for i, sentence in enumerate(sentences) if sentence.strip()]
    found = [""] * len(sentences)
    if filled:
        source = tokens.padded([sentences[i] for i in filled]).to(next(model.parameters()).device)
        best = beam_search(model, source, tokens.target, beam, alpha, beta).tokens.tolist()
        for i, row in zip(filled, best, strict=True):
            found[i] = tokens.decode(row)
    return found


def translate_lines(
    model: Any, lines: Iterable[str], batch_size: int = 32, beam: int = 5, alpha: float = 1.0, beta: float = 0.0
) -> Iterator[str]:
    """Translate lines as they come, ``batch_size`` at a time, in their order: a translation for each line."""
    waiting: list[str] = []
    for line in lines:
        waiting.append(line)
        if len(waiting) == batch_size:
            yield from translate(model, waiting, beam, alpha, beta)
            waiting = []
    if waiting:
        yield from translate(model, waiting, beam, alpha, beta)


@torch.no_grad()
def alignment(model: Any, tokens: JointTokens, source: Tensor, target: Tensor) -> tuple[list[str], list[str], Tensor]:
    """The attention of a translation: the pieces of the source and of the translation, and the weights (T, S).

    Args:
        source: tokens of one sentence with ``END``, (S,).
        target: tokens of its translation with ``END``, without the language's token, (T,).
    """
    given = torch.cat([target.new_tensor([tokens.target]), target[:-1]])
    weights = model.write(given[None], model.read(source[None])).attention[0]
    return tokens.pieces(source.tolist()), tokens.pieces(target.tolist()), weights.float().cpu()


def attention_figure(rows: Sequence[tuple[list[str], list[str], Tensor]]) -> Figure:
    """A picture of attention matrices side by side, source from left to right and translation from top to bottom."""
    widths = [max(2.0, 0.3 * len(source)) for source, _, _ in rows]
    height = 1.5 + 0.3 * max(len(target) for _, target, _ in rows)
    figure = Figure(figsize=(sum(widths) + 1.2 * len(rows), height), dpi=100, layout="constrained")
    panels = figure.subplots(1, len(rows), squeeze=False, width_ratios=widths)[0]
    for axes, (source, target, weights) in zip(panels, rows, strict=True):
        axes.imshow(weights.numpy(), cmap="gray", vmin=0, vmax=1, aspect="auto")
        family = list(families())
        axes.set_xticks(range(len(source)), [printable(piece) for piece in source], rotation=90, fontfamily=family)
        axes.set_yticks(range(len(target)), [printable(piece) for piece in target], fontfamily=family)
    return figure


@lru_cache
def families() -> dict[str, frozenset[int]]:
    """The fonts for pieces of text, matplotlib's own first, and the code points that each can draw."""
    installed = {font.name: font.fname for font in font_manager.fontManager.ttflist}
    return {
        name: frozenset(font_manager.get_font(installed[name]).get_charmap())
        for name in ("DejaVu Sans", *EAST_ASIAN)
        if name in installed
    }


def printable(piece: str) -> str:
    """A piece as matplotlib can draw it: an escape if no font has its letters, and no dollar signs, which would begin a
    formula.
    """
    drawable = all(any(ord(letter) in known for known in families().values()) for letter in piece)
    return piece.replace("$", r"\$") if drawable else piece.encode("unicode_escape").decode()


def draw_attention(model: Any, sentence: str, path: Path, beam: int = 5, alpha: float = 1.0, beta: float = 0.0) -> str:
    """Translate one sentence, and write a picture of its attention to a file; returns the translation.

    Raises:
        ZooError: the model does not translate, the sentence is empty, or the file cannot be written.
    """
    tokens = tokens_of(model)
    if not sentence.strip():
        raise ZooError("--attention needs a sentence: give one with --text")
    source = tokens.padded([sentence]).to(next(model.parameters()).device)
    best = beam_search(model, source, tokens.target, beam, alpha, beta).tokens[0]
    length = best.tolist().index(END) + 1
    figure = attention_figure([alignment(model, tokens, source[0], best[:length])])
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise ZooError(f"{path} cannot be written: {error}; choose another file, such as attention.png") from None
    return tokens.decode(best.tolist())
