"""Cards: the description of shipped weights, in a JSON file beside them that can be read without torch."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from fnmatch import fnmatchcase
from math import nan
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, get_origin, get_type_hints

from zoo.config import formats
from zoo.config.files import MB, read_file
from zoo.config.foreign import check_name
from zoo.config.plain import check_plain, shortened
from zoo.errors import ZooError
from zoo.paths import WEIGHTS

CARD_BYTES = 50 * MB  # the largest card file; one with a vocabulary of 100,000 words has 1 MB

RATES = (
    "accuracy", "accuracy_plain", "top5", "f1", "calibration_error", "error", "wer", "cer", "wer_beam", "cer_beam",
    "short",
)  # fmt: skip


def show(name: str, value: float) -> str:
    """A metric as text: rates in per cent, others with four decimals; a prefix, as in ``test/loss``, is ignored."""
    return f"{value:.2%}" if name.rpartition("/")[2] in RATES else f"{value:.4f}"


HIGHER = (
    "accuracy",
    "accuracy_plain",
    "top5",
    "f1",
    "precision",
    "recall",
    "modes",
    "agreement",
    "bleu",
    "bleu_lower",
    "chrf",
    "bleu_back",
    "bleu_greedy",
    "bleu_greedy_back",
    "word_by_word",
    "word_by_word_back",
    "round_trip",
    "gain",
    "gain_low",
    "gain_high",
    "matching",
)
# they help to judge another metric; see docs/metrics.md
NEITHER = ("fid_floor", "pca_loss", "unknown", "kl", "perplexity_wrong", "perplexity_none")


def arrow(name: str) -> str:
    """The better direction of a metric: "↑" if higher values are better, "↓" if lower ones are, "" if neither are."""
    name = name.rpartition("/")[2]
    return "" if name in NEITHER else "↑" if name in HIGHER else "↓"


@dataclass
class Card:
    """What the trained model is, how it was trained, and its test metrics.

    Attributes:
        name: the name of the experiment and of the weights file.
        title: a description in one line.
        model, task, data: the configs of the model, of its task and of the data it was trained and tested on:
            ``_target_`` and its arguments, without interpolations.
        preprocess: the config of what turns a raw input into the model's input; see ``zoo.data.preprocess``.
        classes: class names in the order of the outputs; empty if the outputs are not classes.
        metrics: the metrics of these weights on the official test split.
        metric: the most important of them.
        runs: the same metrics for every seed, each with its ``seed``; the shipped weights are those of the first.
        published: the published figure to compare with, and its source.
        command, minutes, hardware, versions: how the weights were trained; minutes are the training time of their seed.
        note: a remark on these, such as how busy the machine was.
        parameters: the number of parameters, including frozen ones.
        licence: the licence of the weights; empty for a user's own model, whose owner has not chosen one.
        sha256: the checksum of the safetensors file.
        size: the size of the safetensors file in bytes, which is the most that is downloaded; 0 if it is not known.
        format: the version of the card's own format; see ``zoo.config.formats``.
        quick_examples: the number of examples at the start of the test split on which ``quick_metrics`` were measured:
            images (compared with as many samples, for a model that generates images) or characters of a text. 0 means
            that they were not measured.
        quick_metrics: the test metrics on these examples only. They tell whether the weights, their preprocessing and
            their data are unchanged, not how good the model is: a Fréchet distance of so few images is always large.
        typical: what the outputs for training images are like, by which other pictures are recognised; empty if it was
            not measured. See ``zoo.pretrained.typical``.
    """

    name: str
    title: str
    model: dict[str, Any]
    task: dict[str, Any]
    data: dict[str, Any]
    preprocess: dict[str, Any]
    classes: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    metric: str = "accuracy"
    runs: list[dict[str, float]] = field(default_factory=list)
    published: str = ""
    command: str = ""
    minutes: float = 0.0
    hardware: str = ""
    note: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    parameters: int = 0
    licence: str = ""
    sha256: str = ""
    size: int = 0
    format: int = formats.CARD
    quick_examples: int = 0
    quick_metrics: dict[str, float] = field(default_factory=dict)
    typical: dict[str, Any] = field(default_factory=dict)

    def headline(self, short: bool = False) -> str:
        """The most important metric as text, with its name unless it is accuracy; empty if it was not measured.

        Args:
            short: leave out the value without test-time augmentation.
        """
        if self.metric not in self.metrics:
            return ""
        shown = show(self.metric, self.metrics[self.metric])
        if (plain := f"{self.metric}_plain") in self.metrics and not short:  # the value without test-time augmentation
            shown += f" ({show(plain, self.metrics[plain])} without TTA)"
        return shown if self.metric == "accuracy" else f"{self.metric} {shown}"

    def mean_and_spread(self, metric: str) -> tuple[float, float]:
        """Mean and standard deviation of a metric over the seeds; for a single run, its value and 0."""
        values = [run[metric] for run in self.runs if metric in run] or [self.metrics.get(metric, nan)]
        return fmean(values), stdev(values) if len(values) > 1 else 0.0

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Card":
        try:
            content = json.loads(read_file(path, CARD_BYTES).decode())
        except (OSError, ValueError, RecursionError) as error:
            raise ZooError(f"{path} is not a card: {error}") from None
        return cls.of(content, str(path))

    @classmethod
    def of(cls, content: Any, where: str) -> "Card":
        """A card from the plain values read from the file ``where``, converted to the current format and names.

        Raises:
            ZooError: a field is missing, has the wrong type, or is unknown, since a newer zoo wrote the card.
        """
        if not isinstance(content, Mapping):
            raise ZooError(f"{where} is not a card: it holds no fields")
        check_plain(content, f"{where} is not a card: it")
        content = formats.current_card(content, where)
        known = get_type_hints(cls)
        if newer := [str(key) for key in content if key not in known]:
            raise ZooError(f"{where}: its card has {', '.join(newer)}, so a newer zoo wrote it; update reference-zoo")
        needed = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
        if missing := [key for key in needed if key not in content]:
            raise ZooError(f"{where} is not a card: it lacks {', '.join(missing)}")
        for key, value in content.items():
            kind = get_origin(known[key]) or known[key]
            if not isinstance(value, (int, float) if kind is float else kind):
                raise ZooError(f"{where} is not a card: {key} is {shortened(value)}, not of type {kind.__name__}")
        check_name(content["name"], f"{where}: name")
        check_values(content, where)
        return cls(**content)


def check_values(content: Mapping[str, Any], where: str) -> None:
    """Raise a ``ZooError`` if a card has metrics that are not numbers, or class names that are not names."""
    for run in [content.get("metrics", {}), *content.get("runs", [])]:
        numbers = run.values() if isinstance(run, Mapping) else [run]
        if odd := [n for n in numbers if not isinstance(n, (int, float)) or isinstance(n, bool)]:
            raise ZooError(f"{where} is not a card: a metric is {shortened(odd[0])}, not a number")
    for key in ("classes", "versions"):
        names = content.get(key, [])
        if odd := [
            n for n in (names.values() if isinstance(names, Mapping) else names) if not isinstance(n, (str, int))
        ]:
            raise ZooError(f"{where} is not a card: {key} has {shortened(odd[0])} in it, not a name")


# An absolute path in a value: it begins the value or a part of it, and ends with that part. It may contain spaces.
ABSOLUTE = re.compile(r"(?:(?<=[=,:\[{('\"])|^)(?:~?/(?!/)|[A-Za-z]:[\\/](?!/))[^,\]})'\"]*")


def without_folders(value: str) -> str:
    """A value or an override of a command with each absolute path replaced by its last part; the rest of such a path
    tells where a user's files lie.
    """
    return ABSOLUTE.sub(lambda found: re.split(r"[\\/]", found[0].rstrip("\\/"))[-1], value)


def portable_command(command: str) -> str:
    """A command with each absolute path in it replaced by its last part."""
    try:
        words = shlex.split(command)
    except ValueError:  # an open quotation mark
        words = [command]
    return " ".join(shlex.quote(without_folders(word)) for word in words)


def portable(card: Card) -> Card:
    """A copy of a card for other people, without the folders of the machine that made it."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return without_folders(value) if isinstance(value, str) else value

    configs = {key: plain(getattr(card, key)) for key in ("model", "task", "data")}
    return replace(card, command=portable_command(card.command), **configs)


def read_shipped() -> tuple[list["Card"], list[str]]:
    """The cards of all shipped weights, and an error message for each card that cannot be read."""
    cards: list[Card] = []
    errors: list[str] = []
    for path in shipped().values():
        try:
            cards.append(Card.read(path))
        except ZooError as error:
            errors.append(str(error))
    return cards, errors


def shipped() -> dict[str, Path]:
    """The paths of the cards of all shipped weights, by name."""
    return {path.stem: path for path in sorted(WEIGHTS.glob("*.json"))}


def list_weights(pattern: str = "*") -> list[str]:
    """The names of the shipped weights, which ``load`` accepts; with a pattern (``"*mnist"``), those that match it."""
    return [name for name in shipped() if fnmatchcase(name, pattern)]
