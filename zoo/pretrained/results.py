"""The tables of RESULTS.md and README.md, generated from the cards of the shipped weights."""

from collections.abc import Sequence
from math import nan

from zoo.errors import ZooError
from zoo.pretrained.card import Card, show


def results_table(cards: Sequence[Card]) -> str:
    """The text of RESULTS.md, with one table row per card."""
    lines = [
        "# Results",
        "",
        "Made by `zoo results --write RESULTS.md` from the cards in `zoo/weights/`. Test (accuracy, unless another",
        "metric is named) and error are on the official test split; `zoo evaluate --all` measures the shipped weights",
        "again. Mean ± standard deviation are over the seeds of the last column; the weights shipped, and the minutes",
        "of training, are the first seed's. For an accuracy, mean and standard deviation are those of the error.",
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
            f"| {card.headline()} | {error} | {many} | {card.published} | {card.minutes:.1f} | {seeds} |"
        )
    lines += ["", "Commands (with `seed=1` and so on for the other seeds) and hardware:", ""]
    for card in cards:
        note = f" ({card.note})" if card.note else ""
        lines.append(f"- `{card.command}`: {card.hardware}, torch {card.versions.get('torch', '')}{note}")
    return "\n".join(lines) + "\n"


MARKS = ("<!-- shipped", "<!-- /shipped -->")


def readme_with_table(page: str, cards: Sequence[Card]) -> str:
    """The text of README.md with a new table of the shipped weights between its two marks.

    Raises:
        ZooError: the page does not have the two marks.
    """
    before, start, rest = page.partition(MARKS[0])
    head, line_end, rest = rest.partition("\n")
    _, end, after = rest.partition(MARKS[1])
    if not (start and line_end and end):
        raise ZooError(f"README.md has no lines {MARKS[0]} … --> and {MARKS[1]} with the table between them; add them")
    lines = ["| weights | what it is | parameters | test | published |", "|---|---|---:|---:|---|"]
    for card in cards:
        lines.append(f"| `{card.name}` | {card.title} | {card.parameters:,} | {card.headline()} | {card.published} |")
    return before + start + head + "\n\n" + "\n".join(lines) + "\n\n" + end + after
