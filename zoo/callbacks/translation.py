"""TensorBoard callback for models that translate: translations of validation sentences, and their attention."""

from typing import Any

from lightning import Trainer

from zoo.callbacks.picture import OnValidation
from zoo.contracts import OfPairs, Translator
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
        return isinstance(task.model, Translator) and isinstance(data, OfPairs)

    def show(self, writer: Any, trainer: Trainer, task: Any, model: Any) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        tokens, (source, target) = data.tokenizer, (side[: self.most] for side in data.splits["val"])
        source, step = source.to(task.device), logged_step(trainer)
        found = greedy(model, source, tokens.start(data.languages[1])).tokens
        rows = ["| source | translation | reference |", "|---|---|---|"]
        for row in zip(source.tolist(), found.tolist(), target.tolist(), strict=True):
            rows.append(f"| {' | '.join(tokens.decode(side).replace('|', chr(0x2758)) for side in row)} |")
        writer.add_text("translations", "\n".join(rows), step)
        pictures = []
        for given, made in zip(source[: self.drawn], found[: self.drawn], strict=True):
            end = int((made == END).nonzero()[0]) + 1
            pictures.append(alignment(model, tokens, given[given != PAD], made[:end]))
        writer.add_figure("attention", attention_figure(pictures), step, close=False)
