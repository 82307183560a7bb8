"""The command ``zoo``."""

import os
import sys

from zoo import terminal
from zoo.cli import making, measuring  # noqa: F401  their commands
from zoo.cli.base import app, one_line


def main() -> None:
    """Run a command; an error is one line on stderr and exit code 1."""
    terminal.accept_any_text()
    sys.path.append(os.getcwd())  # the user's own modules; last, so that no file lying here stands in for a library
    try:
        app()
    except Exception as error:
        if os.environ.get("ZOO_TRACEBACK"):
            raise
        terminal.say(f"error: {one_line(error)}")
        sys.exit(1)
