"""The console that all of the zoo prints tables and names with."""

from typing import Any

import rich.console
from rich.text import Text

from zoo.terminal import clean


class Console(rich.console.Console):
    """Rich's console for names that come from anywhere.

    ``[head]`` in a name is no style and ``:cat:`` no emoji, and control characters are shown; see ``zoo.terminal``.
    Every text that is not a ``Text`` goes through ``render_str``, whether it is printed, in a table or its title. A
    text is one line: a table's rows and a list of files cannot be forged by a name with a line end in it.
    """

    def __init__(self, **options: Any):
        super().__init__(**{"highlight": False, "markup": False, "emoji": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(clean(text, halves=self.is_terminal), **options)
