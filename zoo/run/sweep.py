"""The table at the end of a sweep (``-m``): one row per run, with the varied settings and the test metrics."""

import csv
import json
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from zoo.errors import ZooError
from zoo.run.guard import failures


class SweepTable(Callback):
    """Reads the results from the runs' folders, so that it works with every launcher and after failed runs too."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Make Hydra's config available, so that the sweep's folder can be named after the choices of its runs."""
        HydraConfig.instance().set_config(config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        rows = [read_run(path.parent.parent) for path in sorted(folder.glob("*/.hydra/overrides.yaml"))]
        if rows:
            # with some launchers the runs are in other processes; then this one learns of failures only here
            failures.extend(ZooError(f"run {row['run']} failed") for row in rows if row.get("") == "failed")
            rows.sort(key=lambda row: int(row["run"]) if row["run"].isdigit() else 0)
            show(rows, folder)


def read_run(folder: Path) -> dict[str, str]:
    """A run's overrides and test metrics, as text; a run that wrote no metrics counts as failed."""
    varied: dict[str, str] = {}
    for override in OmegaConf.load(folder / ".hydra" / "overrides.yaml"):
        key, _, value = str(override).lstrip("+").partition("=")
        varied[key] = value
    path = folder / "metrics.json"
    metrics = json.loads(path.read_text()) if path.exists() else None
    if metrics is None:
        return {"run": folder.name, **varied, "": "failed"}
    return {"run": folder.name, **varied, **{k.removeprefix("test/"): f"{v:.4f}" for k, v in metrics.items()}}


def show(rows: list[dict[str, str]], folder: Path) -> None:
    """Print the table and write it as ``sweep.csv`` beside the runs; overrides that never vary are left out."""
    from rich.table import Table

    from zoo.console import Console

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
