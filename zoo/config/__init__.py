"""Configs: the registry of models, checks against the signatures of classes, and creating the objects they name."""
