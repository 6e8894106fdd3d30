"""Where Hydra looks for plugins: what `hydra/launcher=process` and `hydra/sweeper=grid|optuna` stand for."""

from vae_lightning.search.sweeper import OptunaSweeper
from vae_lightning.sweep.grid import GridSweeper
from vae_lightning.sweep.launcher import ProcessLauncher


class Process(ProcessLauncher):
    """`hydra/launcher=process`."""


class Optuna(OptunaSweeper):
    """`hydra/sweeper=optuna`."""


class Grid(GridSweeper):
    """`hydra/sweeper=grid`."""
