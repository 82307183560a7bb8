"""The command-line program ``zoo``."""

import os
import sys

import typer

from zoo import terminal
from zoo.cli import checking, looking, making, measuring, sharing, tuning  # noqa: F401  imported to register their commands
from zoo.cli.base import app, one_line
from zoo.cli.groups import WRONG, wrong_usage


def main() -> None:
    """Run a command; an error gives one line on stderr and exit code 1, a command that is written wrongly 2."""
    terminal.accept_any_text()
    try:
        if len(sys.argv) == 1:  # the help, or what completes the command's name
            app(prog_name="zoo")
        sys.exit(app(prog_name="zoo", standalone_mode=False))
    except WRONG as error:
        terminal.say(f"error: {wrong_usage(error)}")
        sys.exit(2)
    except typer.Abort:
        sys.exit(1)
    except Exception as error:
        if os.environ.get("ZOO_TRACEBACK"):
            raise
        terminal.say(f"error: {one_line(error)}")
        sys.exit(1)
