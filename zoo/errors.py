"""The one exception class that users see as a message instead of a traceback."""


class ZooError(Exception):
    """An error for people: one line that says what is wrong, what is valid, what to do."""
