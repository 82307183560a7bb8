"""Tell a story of pictures: sentences drawn for each, by the rule against repetition of GLAC Net's authors."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.contracts import Storyteller
from zoo.data.story_words import ENDS, STOP, UNKNOWN, StoryReader
from zoo.errors import ZooError

FREE = (".", "?", "!", ",", "a", "an", "am", "is", "was", "are", "were", "do", "does", "did", "the", "and")  # may recur
PENALTY = 5.0  # a word that was said n times becomes 1 + PENALTY · n times less probable
DRAWS = 100  # words drawn, of which the most frequent is taken
MOST = 50  # words of a page
PAGES = 100  # pictures of a story


@torch.inference_mode()
def tell(model: Any, reader: StoryReader, pictures: Tensor, seed: int = 0, most: int = MOST) -> Tensor:
    """Draw the sentences of stories, all stories of a batch at once.

    The rule is that of the authors' code (section 2.3 of the paper): a page's text ends only after a full stop, a
    question mark or an exclamation mark; words that the story has said before become less probable, except for
    function words; of ``DRAWS`` words that are drawn, the most frequent is taken.

    Args:
        model: a ``Storyteller`` in eval mode.
        reader: the model's ``preprocess``.
        pictures: features, (B, N, in_features).
        seed: the same seed gives the same stories.
        most: most words of a page.

    Returns:
        Tokens, int64 (B, N, most), with ``STOP`` after the end of a page's text.
    """
    generator = torch.Generator(pictures.device).manual_seed(seed)
    size, (n, pages) = len(reader.known), pictures.shape[:2]
    free, ends = torch.zeros(2, size, dtype=torch.bool, device=pictures.device)
    free[[reader.numbers[word] for word in FREE if word in reader.numbers]] = True
    ends[[reader.numbers[word] for word in ENDS if word in reader.numbers]] = True
    free[STOP] = True
    said = torch.zeros(n, size, device=pictures.device)
    told = torch.full((n, pages, most), STOP, device=pictures.device)
    glances, state = model.glances(pictures), None
    for page in range(pages):
        word = torch.full((n,), STOP, device=pictures.device)
        going = torch.ones(n, dtype=torch.bool, device=pictures.device)
        for step in range(most):
            logits, after = model.step(word, glances[:, page], state)
            state = after if state is None else kept(after, state, going)
            logits[:, UNKNOWN] = -torch.inf
            logits[:, STOP] = logits[:, STOP].where(ends[word], -torch.inf)
            p = logits.float().softmax(1) / torch.where(free, 1.0, 1 + PENALTY * said)
            drawn = torch.multinomial(p, DRAWS, replacement=True, generator=generator)  # (B, DRAWS)
            votes = torch.zeros_like(p).scatter_add_(1, drawn, torch.ones_like(drawn, dtype=p.dtype))
            word = votes.argmax(1).where(going, STOP)
            told[:, page, step] = word
            going = going & (word != STOP)
            said.scatter_add_(1, word[:, None], going[:, None].float())
    return told


def kept(after: Sequence[Tensor], before: Sequence[Tensor], going: Tensor) -> tuple[Tensor, ...]:
    """The state (depth, B, hidden) after a step for the stories that go on, and before it for the others."""
    return tuple(new.where(going[:, None], old) for new, old in zip(after, before, strict=True))


def tell_files(name: str, model: Any, paths: Sequence[Path], seed: int = 0) -> list[str]:
    """The sentences of a story of picture files, one text for each.

    Raises:
        ZooError: the model tells no stories, there are no pictures or too many, or a file is not a picture.
    """
    reader = model.preprocess
    if not isinstance(model, Storyteller) or not isinstance(reader, StoryReader):
        raise ZooError(f"{name} tells no stories; give a model that was trained with task=story")
    if not 1 <= len(paths) <= PAGES:
        raise ZooError(f"{len(paths)} pictures are not valid: give 1 to {PAGES}, in the order of the story")
    told = tell(model, reader, reader.read(paths), seed)[0]
    return [reader.decode(tokens) for tokens in told.tolist()]


def write_page(paths: Sequence[Path], texts: Sequence[str], out: Path) -> None:
    """Write a page of the pictures and their sentences as one HTML file, which holds the pictures too.

    Raises:
        ZooError: the file cannot be written.
    """
    import base64
    import io

    from zoo.data.image_file import opened

    rows = []
    for path, text in zip(paths, texts, strict=True):
        content = io.BytesIO()
        with opened(path) as picture:
            small = picture.convert("RGB")
            small.thumbnail((640, 640))
            small.save(content, "JPEG")
        data = base64.b64encode(content.getvalue()).decode()
        rows.append(f'<figure><img alt="" src="data:image/jpeg;base64,{data}"><p>{html.escape(text)}</p></figure>')
    style = "body{max-width:40em;margin:2em auto;font:1.2em serif}img{max-width:100%}figure{margin:0 0 2em}"
    page = (
        f'<!DOCTYPE html><html><meta charset="utf-8"><title>A story</title><style>{style}</style>{"".join(rows)}</html>'
    )
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ZooError(f"{out} cannot be written: {error.strerror or error}; choose another --out") from None
