"""The table at the end of a sweep (``-m``): a row a run, with what was varied and what came out."""

import csv
import json
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf


class SweepTable(Callback):
    """Reads what each run wrote into its folder, so that it works with every launcher, and after a failed run too."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        rows = [row for path in sorted(folder.glob("*/metrics.json")) if (row := read_run(path.parent))]
        if rows:
            rows.sort(key=lambda row: int(row["run"]) if row["run"].isdigit() else 0)
            show(rows, folder)


def read_run(folder: Path) -> dict[str, str] | None:
    """A run's overrides and test metrics, as text."""
    overrides = folder / ".hydra" / "overrides.yaml"
    if not overrides.exists():
        return None
    varied: dict[str, str] = {}
    for override in OmegaConf.load(overrides):
        key, _, value = str(override).lstrip("+").partition("=")
        varied[key] = value
    metrics = json.loads((folder / "metrics.json").read_text())
    return {"run": folder.name, **varied, **{k.removeprefix("test/"): f"{v:.4f}" for k, v in metrics.items()}}


def show(rows: list[dict[str, str]], folder: Path) -> None:
    """Print the table and write it as ``sweep.csv`` beside the runs; overrides that never vary are left out."""
    from rich.console import Console
    from rich.table import Table

    columns = list(dict.fromkeys(key for row in rows for key in row))
    with (folder / "sweep.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    shown = [c for c in columns if len(rows) == 1 or c == "run" or len({row.get(c) for row in rows}) > 1]
    table = Table(*shown, title=str(folder), title_justify="left")
    for row in rows:
        table.add_row(*(row.get(column, "") for column in shown))
    Console().print(table)
