"""Write the sentences of a sequence of pictures (GLAC Net, Kim et al. 2018), and measure whether the pictures help."""

from collections.abc import Mapping
from math import exp
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from zoo.arguments import Inherited, NonNegative
from zoo.contracts import MatchesPages, Story, Storyteller, require
from zoo.errors import ZooError
from zoo.tasks.task import Mean, Task

STOP = 1


class Tell(Task):
    """Minimise the mean negative log-likelihood of the words of stories, in nats per word; the end of a page is a word.

    Two further objectives ask more of the pictures, with weights ``page_words`` and ``matching``: which words a page
    has, predicted from its picture alone (binary cross-entropy); and which of the pictures in the batch belongs to a
    page's words, and the reverse (van den Oord et al. 2018, equation 4).

    Measures ``loss``, ``accuracy`` (of the most probable word) and ``perplexity``, exp(loss). The test measures also
    ``perplexity_wrong`` and ``perplexity_none``, with the pictures of another book's story, and with features of zero;
    ``gain``, by how many nats per word the right pictures are better than the wrong ones, and ``gain_low`` and
    ``gain_high``, the ends of its 95 % interval over books. With ``matching``, also ``matching``: how often the words
    of a page fit its own picture better than the other pictures of its story.

    Args:
        model: a ``Storyteller``; with further objectives a ``MatchesPages`` too.
        num_classes: the size of the vocabulary.
        page_words, matching: the weights of the further objectives.
        clip_norm, shared: see ``Task``.
    """

    calls = ("forward", "page_words", "meanings")

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        page_words: NonNegative = 0.0,
        matching: NonNegative = 0.0,
        clip_norm: NonNegative | None = 1.0,
        **shared: Inherited,
    ):
        super().__init__(model, clip_norm=clip_norm, **shared)
        require(model, Storyteller, "task=story", "choose model=glac")
        self.calls_forward = not (page_words or matching)
        self.calls = ("forward",) if self.calls_forward else type(self).calls
        if not self.calls_forward:
            require(model, MatchesPages, "task.page_words and task.matching", "set both to 0, or choose model=glac")
        self.num_classes, self.page_words, self.matching = num_classes, page_words, matching
        self.measures.update({"loss": Mean(), "accuracy": Mean(), "wrong": Mean(), "none": Mean(), "gain": Paired()})
        if matching:
            self.measures["matching"] = Mean()

    def check_output(self, logits: Tensor, x: Story, targets: Tensor) -> None:
        """Raise a ``ZooError`` if the model does not give one logit per word; called once."""
        if not isinstance(x, Story):
            raise ZooError("task=story needs stories of pictures: choose data=digit_stories or data=picture_stories")
        if tuple(logits.shape) != (*targets.shape, self.num_classes):
            raise ZooError(
                f"task=story needs {self.num_classes} numbers per word; the model gives "
                f"{'×'.join(map(str, logits.shape[1:]))} per story: leave model.num_classes at its default"
            )

    def training_loss(self, batch: Any, batch_idx: int) -> Tensor:
        logits = self.model(batch.story).float()
        loss = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        self.log_training(loss=loss)
        model: Any = self.model
        if self.page_words:
            loss = loss + self.page_words * bag_loss(model.page_words(batch.story.pictures).float(), batch.texts)
        if self.matching:
            of_picture, of_words = model.meanings(batch.story.pictures, batch.texts)
            scores = of_words.flatten(0, 1).float() @ of_picture.flatten(0, 1).float().T  # (B · N, B · N)
            loss = loss + self.matching * contrast(scores, batch.pages.flatten())
        return loss

    def measure(self, batch: Any, part: str) -> None:
        right = self.nats(batch, batch.story)  # (B, L)
        n = (batch.targets != -100).sum()
        self.add("loss", right, n)
        if self.matching:
            model: Any = self.model
            of_picture, of_words = model.meanings(batch.story.pictures, batch.texts)
            best = (of_words @ of_picture.transpose(1, 2)).argmax(2)  # (B, N), the picture that fits a page best
            found = (best == torch.arange(best.shape[1], device=best.device)) & batch.counted
            pages = batch.counted.sum()
            self.measures["matching"].update(found.sum() / pages.clamp(min=1), pages)  # type: ignore[operator]
        if part == "val":
            return
        pictures = batch.story.pictures
        self.add("none", self.nats(batch, batch.story._replace(pictures=torch.zeros_like(pictures))), n)
        other, has_other = of_another_book(batch.book)
        wrong = self.nats(batch, batch.story._replace(pictures=pictures[other]))
        counted = (batch.targets != -100).sum(1) * has_other
        self.add("wrong", wrong * has_other[:, None], counted.sum())
        self.measures["gain"].update(((wrong - right).sum(1)) * has_other, counted, batch.book)  # type: ignore[operator]

    def nats(self, batch: Any, story: Story) -> Tensor:
        """The negative log-likelihood of each word (B, L), 0 where there is none to predict."""
        logits = self.model(story).float()
        if story is batch.story:
            n = (batch.targets != -100).sum()
            right = (logits.argmax(2) == batch.targets).sum()
            self.measures["accuracy"].update(right / n.clamp(min=1), n)  # type: ignore[operator]
        return F.cross_entropy(logits.transpose(1, 2), batch.targets, reduction="none")

    def add(self, name: str, nats: Tensor, n: Tensor) -> None:
        self.measures[name].update(nats.sum() / n.clamp(min=1), n)  # type: ignore[operator]

    def metrics(self, part: str) -> Mapping[str, Tensor | float]:
        found = dict(super().metrics(part))
        found["perplexity"] = exp(min(float(found["loss"]), 88.0))  # exp(89) overflows float32
        for name in ("wrong", "none"):
            if name in found:
                found[f"perplexity_{name}"] = exp(min(float(found.pop(name)), 88.0))
        if "gain" in found:
            gain, half = found.pop("gain")  # type: ignore[misc]
            found |= {"gain": gain, "gain_low": gain - half, "gain_high": gain + half}
        return found


def bag_loss(logits: Tensor, texts: Tensor) -> Tensor:
    """The binary cross-entropy, summed over words, the mean over pages: logits (B, N, K), texts (B, N, T)."""
    bags = torch.zeros_like(logits).scatter_(2, texts, 1.0)
    bags[..., STOP] = 0.0
    return F.binary_cross_entropy_with_logits(logits, bags, reduction="none").sum(2).mean()


def contrast(scores: Tensor, pages: Tensor) -> Tensor:
    """The contrastive loss of words and pictures in both directions: scores (P, P) of the pages with these numbers.

    A page that is in the batch several times is no wrong answer to itself.
    """
    same = (pages[:, None] == pages) & ~torch.eye(len(pages), dtype=torch.bool, device=pages.device)
    scores = scores.masked_fill(same, -torch.inf)
    own = torch.arange(len(pages), device=pages.device)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


def of_another_book(book: Tensor) -> tuple[Tensor, Tensor]:
    """For each story, the next one in the batch that is of another book, (B,), and whether there is one, (B,)."""
    n = len(book)
    ahead = (torch.arange(n, device=book.device) - torch.arange(n, device=book.device)[:, None]) % n
    differs = book[:, None] != book
    return (differs * (n - ahead)).argmax(1), differs.any(1)


class Paired(Metric):
    """A difference in nats per word, and half its 95 % interval, over books as the independent units.

    With difference d and number of words w of each book, the value is Σd / Σw, and its variance that of a ratio
    estimator, M / (M - 1) · Σ(d - value · w)² / (Σw)², for M books (Cochran 1977, section 6.4).
    """

    full_state_update = False
    nats: list[Tensor]
    words: list[Tensor]
    books: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("nats", "words", "books"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, nats: Tensor, words: Tensor, books: Tensor) -> None:
        """Add stories: differences, numbers of words, and numbers of books, (B,) each."""
        for state, values in ((self.nats, nats), (self.words, words), (self.books, books)):
            state.append(values)

    def compute(self) -> tuple[Tensor, Tensor]:
        nats, words, books = (dim_zero_cat(state) for state in (self.nats, self.words, self.books))
        place = books.unique(return_inverse=True)[1]
        m = int(place.max()) + 1
        d, w = (torch.zeros(m, device=v.device).index_add_(0, place, v.float()) for v in (nats, words))
        value = d.sum() / w.sum().clamp(min=1)
        spread = (d - value * w).square().sum() * m / max(1, m - 1)
        return value, 1.96 * spread.sqrt() / w.sum().clamp(min=1)
