"""The tables of RESULTS.md, README.md and docs/shipped.md, generated from the cards of the shipped weights."""

from collections.abc import Sequence
from math import nan

from zoo.errors import ZooError
from zoo.pretrained.card import Card, arrow, show


def results_table(cards: Sequence[Card]) -> str:
    """The text of RESULTS.md, with one table row per card."""
    lines = [
        "# Results",
        "",
        "Made by `zoo results --write RESULTS.md` from the cards in `zoo/weights/`. Test (accuracy, unless another",
        "metric is named) and error are on the official test split; `zoo evaluate --all` measures the shipped weights",
        "again. Mean ± standard deviation are over the seeds of the last column; the weights shipped, and the minutes",
        "of training, are the first seed's. For an accuracy, mean and standard deviation are those of the error.",
        "The arrow points to the better direction; [docs/metrics.md](docs/metrics.md) explains each metric.",
        "Studies: transfer [from MNIST to Fashion-MNIST](docs/transfer.md), between the halves of CIFAR-10's classes "
        "([first to last](docs/transfer_first_to_last.md), [last to first](docs/transfer_last_to_first.md)), "
        "[from CIFAR-10 to Fashion-MNIST](docs/transfer_cifar10_to_fashion.md); "
        "[what shortcuts do](docs/residual.md); "
        "[gradients through time](docs/through_time.md), [what is remembered](docs/adding.md), "
        "[LSTM, GRU and RNN on one text](docs/tiny_shakespeare.md); "
        "[speed](benchmarks/README.md).",
        "",
        "| weights | data | parameters | test | error | mean ± sd | published | minutes | seeds |",
        "|---|---|---:|---:|---:|---:|---|---:|---|",
    ]
    for card in cards:
        error = many = ""
        if "accuracy" in card.metrics:
            mean, spread = card.mean_and_spread("accuracy")
            error = show("error", 1 - card.metrics["accuracy"])
            many = f"{show('error', 1 - mean)} ± {show('error', spread)}"
        elif card.metric in card.metrics:
            mean, spread = (show(card.metric, value) for value in card.mean_and_spread(card.metric))
            many = f"{card.metric} {mean} ± {spread}"
        many = many if len(card.runs) > 1 else "one seed"
        seeds = ", ".join(f"{run.get('seed', nan):.0f}" for run in card.runs)
        lines.append(
            f"| [{card.name}](zoo/weights/{card.name}.json) | {card.data.get('name', '')} | {card.parameters:,} "
            f"| {figure(card)} | {error} | {many} | {card.published} | {card.minutes:.1f} | {seeds} |"
        )
    lines += ["", "Commands (with `seed=1` and so on for the other seeds) and hardware:", ""]
    for card in cards:
        note = f" ({card.note})" if card.note else ""
        lines.append(f"- `{card.command}`: {card.hardware}, torch {card.versions.get('torch', '')}{note}")
    return "\n".join(lines) + "\n"


MARKS = ("<!-- shipped", "<!-- /shipped -->")


def page_with_table(page: str, table: Sequence[str], name: str) -> str:
    """The text of a page with new lines of a table between its two marks.

    Args:
        page: the text.
        table: the new lines.
        name: the page's name, for the error.

    Raises:
        ZooError: the page does not have the two marks.
    """
    before, start, rest = page.partition(MARKS[0])
    head, line_end, rest = rest.partition("\n")
    _, end, after = rest.partition(MARKS[1])
    if not (start and line_end and end):
        raise ZooError(f"{name} has no lines {MARKS[0]} … --> and {MARKS[1]} with the table between them; add them")
    return before + start + head + "\n\n" + "\n".join(table) + "\n\n" + end + after


def figure(card: Card) -> str:
    """The most important metric as text, with an arrow in the better direction."""
    shown = card.headline()
    return f"{shown} {arrow(card.metric)}" if shown else ""


def shipped_rows(cards: Sequence[Card]) -> list[str]:
    """The table of docs/shipped.md, with one row per card."""
    lines = ["| weights | what it is | parameters | test | published |", "|---|---|---:|---:|---|"]
    for card in cards:
        lines.append(
            f"| [{card.name}](../zoo/weights/{card.name}.json) | {card.title} | {card.parameters:,} | {figure(card)} "
            f"| {card.published} |"
        )
    return lines


def family_rows(cards: Sequence[Card]) -> list[str]:
    """The table of README.md, with one row for each file of models: the card with the best figure.

    Cards of a part of the classes or of the labels only stand for their family if it has no others. The figures of a
    family are compared whatever their data are, so the row says which weights they belong to.
    """
    families: dict[str, list[Card]] = {}
    for card in cards:
        families.setdefault(card.model["_target_"].rpartition(".")[0], []).append(card)
    lines = ["| models | best weights | test |", "|---|---|---:|"]
    for module, family in sorted(families.items()):
        measured = [card for card in family if card.metric in card.metrics] or family
        whole = [card for card in measured if not (card.data.get("keep") or card.data.get("labels_per_class"))]
        best = max(whole or measured, key=quality)
        shown = f"{best.headline(short=True)} {arrow(best.metric)}".strip()
        stem = module.rpartition(".")[2]
        path = f"{module.replace('.', '/')}.py"
        models = f"[{stem}]({path})" if module.startswith("zoo.") else stem
        lines.append(f"| {models} | `{best.name}` | {shown} |")
    return lines


def quality(card: Card) -> float:
    """The most important metric of a card, such that more is better."""
    value = card.metrics.get(card.metric, nan)
    return value if arrow(card.metric) == "↑" else -value
