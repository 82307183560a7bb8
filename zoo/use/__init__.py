"""Use a trained model: predict, sample, draw, export, and look inside."""
