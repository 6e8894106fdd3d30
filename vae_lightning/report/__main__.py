"""`python -m vae_lightning.report <folders>`: one page about one or many runs."""

from vae_lightning.command import start

if __name__ == "__main__":
    start("report", "runs")
