"""Trained models: their cards, loading, transfer learning, re-evaluation, and publication."""
