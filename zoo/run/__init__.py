"""A run from command to checkpoint: its folder, processes, checkpoints, resuming and messages to the user."""
