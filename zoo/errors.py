"""The one exception class that users see as a message instead of a traceback."""


class ZooError(Exception):
    """An error that the user can correct: one line that says what is wrong, what is valid and what to do."""
