"""`python -m vae_lightning`: check the command line, compose the configuration, train."""

from __future__ import annotations

from collections.abc import Sequence

from vae_lightning import command, job, resume
from vae_lightning.ranks import command as ranks
from vae_lightning.sweep import resume as sweep


def main() -> None:
    """The console script `vae-lightning`. Ends with 0, 1 (a run failed) or 2 (the command line cannot work)."""
    command.run("config", job.run, _expand)


def _expand(arguments: Sequence[str]) -> list[str]:
    return resume.expand(ranks.expand(sweep.expand(arguments)))


if __name__ == "__main__":
    main()
