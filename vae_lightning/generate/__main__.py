"""`python -m vae_lightning.generate <run folder>`: images that a trained model makes."""

from vae_lightning.command import start

if __name__ == "__main__":
    start("generate", "run")
