"""Cards: what a shipped weight is, in a file beside it that anyone can read without torch."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from zoo.errors import ZooError
from zoo.paths import WEIGHTS


@dataclass
class Card:
    """What a weight is, how it was made and what it reaches.

    Attributes:
        name: of the experiment and of the file.
        title: one line for people.
        model, task, data: the configs of the model, of its objective and of the data it was trained and measured on:
            ``_target_`` and its arguments, without interpolations.
        preprocess: from a raw input to the model's, as a config: see ``zoo.data.preprocess``.
        classes: class names in the order of the outputs.
        metrics: of this weight on the official test split.
        runs: the same metrics of every seed's run, with its ``seed``; the weight shipped is the first.
        published: figure and source that it is held against.
        command, minutes, hardware, versions: what made it; minutes are of training, for one seed.
        parameters: number of trainable parameters.
        sha256: of the safetensors file.
    """

    name: str
    title: str
    model: dict[str, Any]
    task: dict[str, Any]
    data: dict[str, Any]
    preprocess: dict[str, Any]
    classes: list[str]
    metrics: dict[str, float]
    runs: list[dict[str, float]] = field(default_factory=list)
    published: str = ""
    command: str = ""
    minutes: float = 0.0
    hardware: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    parameters: int = 0
    licence: str = "MIT"
    sha256: str = ""

    def mean_and_spread(self, metric: str) -> tuple[float, float]:
        """Mean and standard deviation of a metric over the seeds; of one run, that and 0."""
        values = [run[metric] for run in self.runs] or [self.metrics[metric]]
        return fmean(values), stdev(values) if len(values) > 1 else 0.0

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Card":
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ZooError(f"{path} is not a card: {error}") from None


def shipped() -> dict[str, Path]:
    """The cards of all shipped weights, by name."""
    return {path.stem: path for path in sorted(WEIGHTS.glob("*.json"))}
