"""A run from command to checkpoint: its folder, its processes, resuming, checkpoints and what it tells its user."""
