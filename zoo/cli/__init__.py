"""The command ``zoo``."""

import os
import sys

from zoo.cli import making, measuring  # noqa: F401  their commands
from zoo.cli.base import app, one_line


def main() -> None:
    """Run a command; an error is one line on stderr and exit code 1."""
    try:
        app()
    except Exception as error:
        if os.environ.get("ZOO_TRACEBACK"):
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(1)
