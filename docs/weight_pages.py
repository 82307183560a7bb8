"""The page of a shipped weight on the site: made from its card, its picture or text, and its curve if one was kept."""

import re
from pathlib import Path

from zoo.pretrained.card import Card, arrow, show

REPO = Path(__file__).resolve().parent.parent


def card_page(card: Card) -> str:
    """The page of a shipped weight, from its card; links are relative to docs/."""
    module = card.model["_target_"].rpartition(".")[0]
    many = len(card.runs) > 1
    lines = [f"# {card.name}", "", f"{card.title}. {card.parameters:,} parameters; licence {card.licence}.", ""]
    lines += ["| test metric | these weights | mean ± standard deviation over the seeds |" if many else
              "| test metric | these weights |", "|---|---:|---:|" if many else "|---|---:|"]  # fmt: skip
    for name, value in card.metrics.items():
        row = f"| [{name}](metrics.md) {arrow(name)} | {show(name, value)} |"
        if many:
            mean, spread = (show(name, number) for number in card.mean_and_spread(name))
            row += f" {mean} ± {spread} |"
        lines.append(row)
    seeds = ", ".join(f"{run['seed']:.0f}" for run in card.runs if "seed" in run)
    lines += [
        "",
        f"Measured on the official test split of `{card.data.get('name', 'its data')}`; the arrow points to the better "
        f"direction. {f'Seeds {seeds}; the weights are those of the first.' if many else 'One seed.'}",
        "",
        f"To compare with: {card.published}.",
        "",
        "## Use",
        "",
        "```",
        f"zoo info {card.name}",
        *use(card),
        f"zoo evaluate {card.name}",
        "```",
        "",
        "```python",
        "import zoo",
        "",
        f'model = zoo.load("{card.name}")',
        "```",
        "",
    ]
    lines += figures(card)
    lines += ["## How it was trained", "", "```", card.command, "```", ""]
    lines += [f"It took {card.minutes:.1f} minutes on {card.hardware}, with torch {card.versions.get('torch', '')}"
              f"{f' ({card.note})' if card.note else ''}.", ""]  # fmt: skip
    experiment = re.search(r"experiment=(\w+)", card.command)
    if experiment and (REPO / "configs/experiment" / f"{experiment[1]}.yaml").exists():
        lines += [
            f"- All settings: [configs/experiment/{experiment[1]}.yaml](../configs/experiment/{experiment[1]}.yaml)"
        ]
    lines += [
        f"- The model: [{module}](/made/api/{module}.md), [its code](../{module.replace('.', '/')}.py)",
        f"- The file: `zoo/weights/{card.name}.safetensors`, sha256 `{card.sha256}`",
        "",
    ]
    return "\n".join(lines)


KEPT = REPO / "docs" / "weights"  # made by make_pictures.py and make_curves.py
FIGURES = {  # heading and text of what is shown
    "draws": ("Samples", "`zoo sample {name} -n 50 --seed 1` draws these images."),
    "encodes": ("Reconstructions", "The first test images, and below each its reconstruction."),
    "classifies": (
        "Mistakes",
        "Among the first 2,000 test images (for CIFAR-10, the 1,000 that are embedded in the zoo), those whose wrong "
        "class got the highest probability, with the true class and the prediction.",
    ),
    "writes": ("A sample", "`zoo sample {name} --seed 1 --length 600` writes this text."),
    "translates": (
        "Translations",
        "The first test sentences, each with what `zoo translate {name}` makes of it, and the reference.",
    ),
    "curve": (
        "Curve",
        "A run of the command below, trained again for this page ([its numbers](weights/{name}_curve.csv)). Its "
        "figures may differ a little from those of the run that made the weights, as processors round differently.",
    ),
}


def figures(card: Card) -> list[str]:
    """The lines of the page about its picture or text and its curve, as far as they were made."""
    lines: list[str] = []
    for what, file in ((kind(card), f"{card.name}.png"), (kind(card), f"{card.name}.txt"),
                       ("curve", f"{card.name}_curve.png")):  # fmt: skip
        if (KEPT / file).exists():
            heading, text = FIGURES[what]
            lines += [f"## {heading}", "", text.format(name=card.name), ""]
            picture = [f"![{heading} of {card.name}](weights/{file})", ""]
            lines += picture if file.endswith(".png") else ["```text", (KEPT / file).read_text().rstrip(), "```", ""]
    return lines


def kind(card: Card) -> str:
    """What the weights are for: "classifies", "writes" (text), "draws" or "encodes" (images), "translates"."""
    task = card.task.get("_target_", "").rpartition(".")[2]
    if task in ("Classify", "SemiSupervised"):
        return "classifies"
    return {"Language": "writes", "Reconstruct": "encodes", "Translate": "translates"}.get(task, "draws")


def use(card: Card) -> list[str]:
    """The commands that use the weights."""
    return {
        "classifies": [f"zoo predict {card.name} image.png"],
        "writes": [f"zoo sample {card.name} --length 300"],
        "translates": [f"zoo translate {card.name} --text SENTENCE"],
        "draws": [f"zoo sample {card.name} -n 64 --out grid.png"],
        "encodes": [f"zoo reconstruct {card.name} image.png"],
    }[kind(card)]
