"""The order and the groups in which ``zoo --help`` lists the commands."""

import re
from typing import Any

from typer.core import TyperGroup

SECTIONS = {
    "Use a model": ("list", "info", "predict", "sample", "tell", "reconstruct", "interpolate", "explain", "demo"),
    "Train": ("train", "lr"),
    "Measure": ("evaluate", "calibrate"),
    "Take along": ("export", "download", "push"),
    "This machine": ("checks",),
    "For maintainers of the zoo": ("publish", "results"),
}


class Sections(TyperGroup):
    """A program whose help lists its commands by section, each with its whole first sentence."""

    # click's classes, which newer versions of typer have as a copy of their own
    def format_commands(self, ctx: Any, formatter: Any) -> None:
        listed = [name for names in SECTIONS.values() for name in names]
        others = tuple(name for name in self.list_commands(ctx) if name not in listed)
        for title, names in {**SECTIONS, "Others": others}.items():
            if rows := [(name, sentence(self.commands[name])) for name in names if name in self.commands]:
                with formatter.section(title):
                    formatter.write_dl(rows)


def sentence(command: Any) -> str:
    """The first sentence of a command's help, without its full stop."""
    text = " ".join((command.help or "").split())
    return re.split(r"[.;:](?: |$)", text, maxsplit=1)[0]
