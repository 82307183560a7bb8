"""Callbacks: keeping checkpoints safe, stopping well, and what TensorBoard shows."""
