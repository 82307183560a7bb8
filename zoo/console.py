"""The Rich console with which the whole zoo prints tables and names."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import rich.console
from rich.text import Text

from zoo.terminal import clean, say


class Console(rich.console.Console):
    """Rich's console, made safe for names from untrusted files.

    ``[head]`` in a name is not read as a style, nor ``:cat:`` as an emoji, and control characters are made visible; see
    ``zoo.terminal``. Every text that is not a ``Text`` goes through ``render_str``, whether it is printed directly, in
    a table or as its title. Each text stays on one line, so that a name with a line break in it cannot imitate another
    table row or another file in a list.
    """

    def __init__(self, **options: Any):
        super().__init__(**{"highlight": False, "markup": False, "emoji": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(clean(text, halves=self.is_terminal), **options)


@contextmanager
def busy(doing: str) -> Iterator[None]:
    """Show a spinner with the elapsed time while something is being done; without a terminal, print a line."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        say(f"{doing} …")
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(clean(doing), total=None)
        yield
