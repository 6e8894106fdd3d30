"""`python -m vae_lightning.evaluate <run folder>`: what a trained model is worth, in numbers."""

from vae_lightning.command import start

if __name__ == "__main__":
    start("evaluate", "run")
