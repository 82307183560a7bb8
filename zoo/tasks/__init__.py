"""LightningModules, one an objective. A task owns a model and never knows which."""
