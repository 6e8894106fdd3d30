"""A checkpoint that does not fit the run that it is to continue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vae_lightning.callback.progress import Progress
from vae_lightning.errors import ConfigError, NonFiniteError, UserError, first_line


@contextmanager
def fitting(resumed: Path | None, progress: Progress) -> Iterator[None]:
    """Inside, a run goes on: what goes wrong before its first epoch is the checkpoint's fault, and said in words.

    Args:
        resumed: the checkpoint; None: the run starts anew, and errors are what they are.
        progress: knows whether there was an epoch.

    Raises:
        UserError: the checkpoint does not fit; names it.
    """
    try:
        yield
    except Exception as error:
        if resumed is None or progress.begun or isinstance(error, ConfigError | NonFiniteError):
            raise
        why = first_line(error) or type(error).__name__
        raise UserError(f"{resumed}: does not fit the run that it is to continue ({why})") from error
