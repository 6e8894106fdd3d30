"""Where Hydra looks for plugins: what `hydra/launcher=process|vectorized` and `hydra/sweeper=grid|optuna` stand for."""

from vae_lightning.ensemble.launcher import VectorizedLauncher
from vae_lightning.search.sweeper import OptunaSweeper
from vae_lightning.sweep.grid import GridSweeper
from vae_lightning.sweep.launcher import ProcessLauncher


class Process(ProcessLauncher):
    """`hydra/launcher=process`."""


class Vectorized(VectorizedLauncher):
    """`hydra/launcher=vectorized`."""


class Optuna(OptunaSweeper):
    """`hydra/sweeper=optuna`."""


class Grid(GridSweeper):
    """`hydra/sweeper=grid`."""
