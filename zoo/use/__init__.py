"""What is done with a trained model: predict, sample, draw, export, and look inside."""
