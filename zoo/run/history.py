"""The metrics of a run by epoch, as a table."""

from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich.table import Table


class History(list[dict[str, float]]):
    """A row for each epoch: its number, from 1, and metrics by name. ``pandas.DataFrame`` takes the list as it is."""

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(name for row in self for name in row))

    def __rich__(self) -> Table:
        table = Table(*self.columns, box=None, pad_edge=False)
        for row in self.texts():
            table.add_row(*row)
        return table

    def __repr__(self) -> str:
        rows = [self.columns, *self.texts()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.rjust, row, widths)).rstrip() for row in rows)

    def _repr_html_(self) -> str:
        """The table in Jupyter. Names of metrics come from the zoo's own code, numbers from the run."""
        head = "".join(f"<th>{name}</th>" for name in self.columns)
        rows = "".join(f"<tr>{''.join(f'<td>{text}</td>' for text in row)}</tr>" for row in self.texts())
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def texts(self) -> list[list[str]]:
        """The table's cells as texts; an empty one where an epoch has no such metric."""
        return [[shown(row[name]) if name in row else "" for name in self.columns] for row in self]


def shown(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class Record(Callback):
    """Collects Lightning's metrics after each epoch, when those of training and of validation are complete."""

    def __init__(self) -> None:
        self.history = History()
        self.running: int | None = None  # the epoch whose metrics are not complete yet

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.note(trainer)
        self.running = trainer.current_epoch + 1

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.note(trainer)

    def note(self, trainer: Trainer) -> None:
        if self.running is not None:
            metrics: dict[str, Any] = dict(trainer.callback_metrics)
            order = sorted(metrics, key=lambda name: (not name.startswith("train/"), not name.startswith("val/"), name))
            self.history.append({"epoch": self.running, **{name: float(metrics[name]) for name in order}})
        self.running = None
