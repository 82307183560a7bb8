"""Data: where the sets come from, how a batch is gathered, and what it becomes before a model sees it."""
