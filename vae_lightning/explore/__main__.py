"""`python -m vae_lightning.explore <run folder>`: a page on this machine to move through the latents."""

from vae_lightning.command import start

if __name__ == "__main__":
    start("explore", "run")
