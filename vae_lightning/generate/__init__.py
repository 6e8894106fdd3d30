"""The command that makes images with a trained model."""
