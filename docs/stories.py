"""Makes docs/stories.csv and docs/stories.md from the runs of ``experiment=digit_stories`` and its parts taken away.

python train.py experiment=digit_stories
python train.py experiment=digit_stories model.with_global=false
python train.py experiment=digit_stories model.with_local=false
python train.py experiment=digit_stories model.cascade=false
python docs/stories.py FOLDER-OF-EACH
"""

import csv
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from zoo.data.digit_stories import PLACES, DigitStories
from zoo.pretrained.loading import load

HERE = Path(__file__).parent
PARTS = ("with_local", "with_global", "cascade")
NAMES = {"": "whole net", "with_local": "without local", "with_global": "without global", "cascade": "without cascade"}


@torch.inference_mode()
def accuracies(model: Any, data: DigitStories) -> dict[str, float]:
    """The accuracy of all words, and of those that need the picture, the sequence, and the page before."""
    right: dict[str, list[torch.Tensor]] = {name: [] for name in ("words", *PLACES)}
    for part in data.test_dataloader():
        batch = data.batch(*part)
        hit = (model(batch.story).argmax(2) == batch.targets).view(len(batch.book), data.pages, -1)
        right["words"].append(hit.flatten())
        for name, place in PLACES.items():
            pages = hit[:, 1:] if name == "before" else hit  # nothing comes before the first page
            right[name].append(pages[..., place].flatten())
    return {name: float(torch.cat(hits).float().mean()) for name, hits in right.items()}


def row_of(run: Path, data: DigitStories) -> dict[str, Any]:
    model: Any = load(run / "checkpoints" / "last.ckpt")
    without = "+".join(part for part in PARTS if not model.card.model[part])
    found = accuracies(model, data)
    return {"without": without, "minutes": model.card.minutes, **{k: f"{v:.4f}" for k, v in found.items()}}


def page(rows: list[dict[str, str]]) -> str:
    """The page, from the rows of the data file."""
    lines = ["| net | all words | the picture | the sequence | the page before |", "|---|---:|---:|---:|---:|"]
    for row in rows:
        cells = (f"{float(row[name]):.1%}" for name in ("words", "picture", "sequence", "before"))
        lines.append(f"| {NAMES[row['without']]} | {' | '.join(cells)} |")
    text = (HERE / "stories.txt").read_text(encoding="utf-8")
    return text.replace("{table}", "\n".join(lines))


def main(
    runs: Annotated[list[Path] | None, typer.Argument(help="The folders of the runs; none: only the page.")] = None,
) -> None:
    """Measure the runs, write stories.csv, and write stories.md from it and from stories.txt."""
    file = HERE / "stories.csv"
    if runs:
        data = DigitStories(19, 84, train_size=1, val_size=1)  # the test's stories do not depend on these
        data.setup()
        rows = [row_of(run, data) for run in runs]
        with file.open("w", newline="") as out:
            writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    with file.open() as given:
        text = page(list(csv.DictReader(given)))
    (HERE / "stories.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    typer.run(main)
