"""Callbacks that write charts, images and text of a run to TensorBoard."""
