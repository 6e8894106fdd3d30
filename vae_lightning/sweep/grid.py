"""Hydra's own sweeper for as many jobs as you like."""

from __future__ import annotations

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

from vae_lightning.schema import Count


class GridSweeper(BasicSweeper):
    """`hydra/sweeper=grid`: every combination of the values given.

    Hydra's own composes every job before the first one starts, a tenth of a second each: a quarter of an hour for
    10 000. Here the command line was checked already, and a job that cannot be composed fails alone.

    Args:
        max_batch_size: jobs that are handed to the launcher together; null: all.
        params: values to sweep over beside those of the command line, key: "1,2,4".
    """

    def __init__(self, max_batch_size: Count | None = None, params: dict[str, str] | None = None) -> None:
        super().__init__(max_batch_size, params)

    def validate_batch_is_legal(self, batch: Any) -> None:
        """Each job says for itself what is wrong with it."""
