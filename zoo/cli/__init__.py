"""The command-line program ``zoo``."""

import os
import sys

from zoo import terminal
from zoo.cli import (  # noqa: F401  imported to register their commands
    checking,
    hearing,
    looking,
    making,
    measuring,
    sharing,
    tuning,
)
from zoo.cli.base import app, one_line


def main() -> None:
    """Run a command; an error gives one line on stderr and exit code 1."""
    terminal.accept_any_text()
    try:
        app()
    except Exception as error:
        if os.environ.get("ZOO_TRACEBACK"):
            raise
        terminal.say(f"error: {one_line(error)}")
        sys.exit(1)
