"""`python -m vae_lightning.export <run folder>`: a trained model as files for others."""

from vae_lightning.command import start

if __name__ == "__main__":
    start("export", "run")
