"""Plain ``nn.Module`` models, one family per file. The files in ``configs/model/`` register them by name."""
