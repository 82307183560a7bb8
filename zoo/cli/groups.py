"""The order and the groups in which ``zoo --help`` lists the commands, and what a wrong command line is told."""

import re
from typing import Any

import typer
from typer.core import TyperGroup

from zoo.config.checks import unknown
from zoo.config.registry import suggest

WRONG: Any = typer.BadParameter.__mro__[1]  # click's UsageError, of which newer versions of typer have their own copy

SECTIONS = {
    "Use a model": (
        "list",
        "info",
        "predict",
        "sample",
        "transcribe",
        "translate",
        "tell",
        "reconstruct",
        "interpolate",
        "explain",
        "demo",
    ),
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


def wrong_usage(error: Any) -> str:
    """Click's message about a wrong command line in one line, with the nearest valid names."""
    text: str = error.format_message().rstrip(".")
    context = error.ctx
    path = "zoo" if context is None else context.command_path
    if context is not None and (found := re.match(r"No such command '(.*?)'", text)):
        return str(suggest(found[1], sorted(context.command.list_commands(context)), "command"))
    if context is not None and (found := re.match(r"No such option: (\S+?)(?= |$)", text)):
        options = sorted({name for p in context.command.get_params(context) for name in p.opts if name[:2] == "--"})
        return str(unknown(f"{path} {found[1]}", found[1], options, "no such option"))
    return f"{path}: {text[:1].lower()}{' '.join(text[1:].split())}; {path} --help shows what it takes"
