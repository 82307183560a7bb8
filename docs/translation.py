"""Measures BLEU by the length of the source sentence and the width of the beam: docs/translation.csv.

python docs/translation.py seq2seq_tatoeba_ko_en logs/NAME/DATE/checkpoints/best.ckpt

Each argument is a shipped name or a checkpoint; its own test split is translated. docs/translation.md shows
these figures.
"""

import csv
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.pretrained.evaluate import data_of
from zoo.pretrained.loading import load
from zoo.tasks.translate import scores
from zoo.use.translate import translate_lines

BEAMS = (1, 5, 10)
PARTS = 3  # groups of equally many sentences, by length


def rows(name: str) -> list[dict[str, Any]]:
    """The figures of one model: all test sentences, and those of each group of lengths, for each beam."""
    model: Any = load(name)
    data = data_of(model, model.card)
    sentences, references = data.texts["test"]
    lengths = [len(row) - 1 for row in data.tokenizer.encode(sentences)]
    order = sorted(range(len(sentences)), key=lengths.__getitem__)
    size = -(-len(order) // PARTS)
    groups = [order, *(order[i : i + size] for i in range(0, len(order), size))]
    found = []
    for beam in BEAMS:
        made = dict(zip(order, translate_lines(model, [sentences[i] for i in order], 100, beam), strict=True))
        for group in groups:
            measured = scores([made[i] for i in group], [references[i] for i in group])
            found.append(
                {
                    "weights": model.card.name,
                    "attention": model.card.model["attention"],
                    "beam": beam,
                    "shortest": min(lengths[i] for i in group),
                    "longest": max(lengths[i] for i in group),
                    "sentences": len(group),
                    **{key: round(value, 2) for key, (value, _) in measured.items()},
                }
            )
    return found


def main(names: Annotated[list[str], typer.Argument(help="Names of shipped weights, or checkpoints.")]) -> None:
    """Measure each model, and write all figures to docs/translation.csv."""
    found = [row for name in names for row in rows(name)]
    with (Path(__file__).resolve().parent / "translation.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, found[0])
        writer.writeheader()
        writer.writerows(found)


if __name__ == "__main__":
    typer.run(main)
