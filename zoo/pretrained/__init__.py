"""Trained models: cards, loading, transfer, measuring them again, and shipping them."""
