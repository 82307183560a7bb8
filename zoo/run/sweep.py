"""The end of a sweep (``-m``): a table with one row per run, one with the means over seeds, and a CSV file."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from pathlib import Path
from statistics import mean, stdev
from textwrap import shorten
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from zoo.errors import ZooError
from zoo.run.ahead import check_sweep
from zoo.run.guard import failures
from zoo.run.resume import METRICS

FAILED = "failed.txt"  # in the folder of a sweep's run that failed: the reason, in one line
SEEDS = ("seed", "data.seed", "model.seed")  # runs that differ in these alone are repetitions of one setting
OPTUNA = "hydra_optuna_sweeper"  # in the name of Optuna's sweeper
PARTS = ("val/", "test/")  # what the names of metrics begin with


class SweepTable(Callback):
    """Reads the results from the runs' folders, so that it works with every launcher and after failed runs too."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Choose one folder for all runs, and check their settings. Hydra would resolve ``hydra.sweep.dir`` for each
        run anew, and a run is named after its model and data, which may be what the sweep varies.
        """
        HydraConfig.instance().set_config(config)
        overrides = config.hydra.overrides
        folder = str(config.hydra.sweep.dir)
        named_here = any(str(o).startswith("hydra.sweep.dir=") for o in overrides.hydra)
        if not named_here and varies_name(overrides.task):
            folder = str(Path("logs", "sweeps", Path(folder).name))
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.sweep.dir = folder
            if OPTUNA in config.hydra.sweeper._target_ and not any("sweeper.direction=" in o for o in overrides.hydra):
                config.hydra.sweeper.direction = "maximize" if config.task.mode == "max" else "minimize"
            kept = [o for o in overrides.hydra if not str(o).startswith("hydra.sweep.dir=")]
            quoted = folder.replace("\\", "\\\\").replace("'", "\\'")
            config.hydra.overrides.hydra = [*kept, f"hydra.sweep.dir='{quoted}'"]  # the runs are composed with these
        check_sweep(config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        rows = [read_run(path.parent.parent) for path in sorted(folder.glob("*/.hydra/overrides.yaml"))]
        if rows:
            # with some launchers the runs are in other processes; then this one learns of failures only here
            failures.extend(ZooError(f"run {row['run']} failed: {row['failed']}") for row in rows if "failed" in row)
            rows.sort(key=lambda row: int(row["run"]) if row["run"].isdigit() else 0)
            show(rows, folder)


def varies_name(overrides: Iterable[str]) -> bool:
    """Whether a sweep varies what the runs are named after: their model, their data, or the name itself."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return any(
        o.is_sweep_override() and o.key_or_group in ("name", "model", "data", "data.name", "experiment") for o in parsed
    )


def objective(config: DictConfig) -> float:
    """What ``hydra/sweeper=optuna`` optimises: the validation metric by which a run's best weights are chosen; the
    worst value for a run that failed or did not measure it.
    """
    worst = -inf if config.task.mode == "max" else inf
    try:
        metrics = json.loads((Path(HydraConfig.get().runtime.output_dir) / METRICS).read_text())
    except FileNotFoundError:
        return worst
    return float(metrics.get(config.task.monitor, worst))


def note_failure(folder: Path, reason: str) -> None:
    """Leave the reason of a failure in a run's folder, for the table of its sweep."""
    try:
        (folder / FAILED).write_text(f"{reason}\n", encoding="utf-8")
    except OSError:  # the table then says that no reason is known
        return


def read_run(folder: Path) -> dict[str, str]:
    """A run's overrides and metrics, as text. A run that wrote no metrics has failed, and "failed" is the reason."""
    row = {"run": folder.name}
    for override in OmegaConf.load(folder / ".hydra" / "overrides.yaml"):
        key, _, value = str(override).lstrip("+").partition("=")
        row[key] = value
    try:
        metrics = json.loads((folder / METRICS).read_text())
    except FileNotFoundError:
        reason = folder / FAILED
        found = reason.read_text(encoding="utf-8").strip() if reason.is_file() else ""
        return {**row, "failed": found or "it ended without a message"}
    return {**row, **{name: f"{value:.4f}" for name, value in metrics.items()}}


def is_metric(column: str) -> bool:
    return column.startswith(PARTS)


def show(rows: Sequence[Mapping[str, str]], folder: Path) -> None:
    """Print the tables and write the runs' as ``sweep.csv`` beside them. Not printed are overrides that never vary, and
    metrics that only the test has.
    """
    from rich.measure import Measurement
    from rich.table import Table

    from zoo.console import Console
    from zoo.run.report import relative

    found = list(dict.fromkeys(key for row in rows for key in row))
    # settings, then validation, test and failures, also if the first run is the one that failed
    columns = [c for c in found if not is_metric(c) and c != "failed"]
    columns += [c for part in PARTS for c in found if c.startswith(part)] + [c for c in found if c == "failed"]
    with (folder / "sweep.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    always = [c for c in columns if c in ("run", "failed") or is_metric(c)]
    varied = [c for c in columns if c not in always and len({row.get(c) for row in rows}) > 1]
    compared = {c.partition("/")[2] for c in columns if c.startswith("val/")}  # what both parts have
    metrics = [c for c in columns if is_metric(c) and (c.partition("/")[2] in compared or not compared)]
    shown = [c for c in columns if c in ("run", "failed", *varied, *metrics) or (len(rows) == 1 and c not in always)]
    table = Table(*shown, title=str(folder), title_justify="left")
    for row in rows:
        cells = {**row, "failed": shorten(row.get("failed", ""), 60, placeholder=" …")}  # the file has all of it
        table.add_row(*(cells.get(column, "") for column in shown))
    tables = [table]
    if any(seed in varied for seed in SEEDS):
        tables.append(over_seeds(rows, [c for c in varied if c not in SEEDS], metrics))
    console = Console()
    for table in tables:  # wider than a narrow terminal, rather than with settings and numbers that are cut off
        width = Measurement.get(console, console.options.update(width=1000), table).maximum
        Console(width=max(console.width, width)).print(table)
    console.print(f"table        {relative(folder / 'sweep.csv')}", soft_wrap=True)


def over_seeds(rows: Sequence[Mapping[str, str]], settings: Sequence[str], metrics: Sequence[str]) -> Any:
    """A table with one row per setting: the number n of its runs that did not fail, and the mean of each metric over
    them, with the sample standard deviation if there are two or more.
    """
    from rich.table import Table

    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key, "") for key in settings), []).append(row)
    title = "mean ± standard deviation over seeds"
    table = Table(*settings, "n", *metrics, title=title, title_justify="left")
    for setting, repeated in groups.items():
        good = [row for row in repeated if "failed" not in row]
        n = str(len(good)) if len(good) == len(repeated) else f"{len(good)} of {len(repeated)}"
        table.add_row(*setting, n, *(spread([float(row[m]) for row in good if m in row]) for m in metrics))
    return table


def spread(values: Sequence[float]) -> str:
    """The mean of values ± their sample standard deviation."""
    if len(values) < 2:
        return f"{values[0]:.4f}" if values else ""
    return f"{mean(values):.4f} ± {stdev(values):.4f}"
