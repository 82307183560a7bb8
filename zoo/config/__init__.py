"""Configs: their registry, checking them against signatures, and building what they name."""
