"""Plain ``nn.Module`` models, one family a file. ``configs/model/`` is their registry."""
