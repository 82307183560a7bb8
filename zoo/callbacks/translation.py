"""TensorBoard callback for models that translate: translations of validation sentences, and their attention."""

from typing import Any

from lightning import Trainer

from zoo.callbacks.picture import OnValidation
from zoo.contracts import OfPairs, OfTwoLanguages, Translator
from zoo.data.joint import END, PAD
from zoo.tasks.beam import greedy
from zoo.tasks.loop import logged_step
from zoo.use.translate import alignment, attention_figure


class Translations(OnValidation):
    """Greedy translations of the first validation sentences, beside their references, and the attention of a few.

    Args:
        most: the number of sentences.
        drawn: the number of sentences whose attention is drawn: target pieces from top to bottom, white for 1.
    """

    def __init__(self, most: int = 10, drawn: int = 2):
        self.most, self.drawn = most, drawn

    def fits(self, task: Any, data: Any) -> bool:
        paired = isinstance(data, OfPairs) and not isinstance(data, OfTwoLanguages)
        return isinstance(task.model, Translator) and paired

    def show(self, writer: Any, trainer: Trainer, task: Any, model: Any) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        tokens, (source, target) = data.tokenizer, (side[: self.most] for side in data.splits["val"])
        source, step = source.to(task.device), logged_step(trainer)
        found = greedy(model, source, tokens.start(data.languages[1])).tokens
        rows = ["| source | translation | reference |", "|---|---|---|"]
        for row in zip(source.tolist(), found.tolist(), target.tolist(), strict=True):
            rows.append(f"| {' | '.join(cell(tokens.decode(side)) for side in row)} |")
        writer.add_text("translations", "\n".join(rows), step)
        pictures = []
        for given, made in zip(source[: self.drawn], found[: self.drawn], strict=True):
            end = int((made == END).nonzero()[0]) + 1
            pictures.append(alignment(model, tokens, given[given != PAD], made[:end]))
        writer.add_figure("attention", attention_figure(pictures), step, close=False)


class RoundTrips(OnValidation):
    """The first validation sentences of both languages, translated to the other language and back.

    Args:
        most: the number of sentences of each language.
    """

    def __init__(self, most: int = 10):
        self.most = most

    def fits(self, task: Any, data: Any) -> bool:
        return isinstance(task.model, Translator) and isinstance(data, OfTwoLanguages)

    def show(self, writer: Any, trainer: Trainer, task: Any, model: Any) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        starts = [data.tokenizer.start(language) for language in data.languages]
        for side, (language, other) in enumerate(zip(data.languages, reversed(data.languages), strict=True)):
            given = data.splits["val"][side][: self.most, 1:].to(task.device)
            there = greedy(model, given, starts[1 - side]).tokens
            back = greedy(model, there, starts[side]).tokens
            rows = [f"| {language} | {other} | {language} again |", "|---|---|---|"]
            for row in zip(given.tolist(), there.tolist(), back.tolist(), strict=True):
                rows.append(f"| {' | '.join(cell(data.tokenizer.decode(part)) for part in row)} |")
            writer.add_text(f"round_trips/{language}", "\n".join(rows), logged_step(trainer))


def cell(text: str) -> str:
    """A sentence as a cell of a table in Markdown."""
    return text.replace("|", "\u2758")
