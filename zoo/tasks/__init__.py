"""LightningModules, one per training objective. A task holds a model but does not depend on which model it is."""
