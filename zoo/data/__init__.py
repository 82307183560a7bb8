"""Data: where data sets come from, how mini-batches are formed, and how they are preprocessed for a model."""
