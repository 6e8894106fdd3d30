"""Importing much at once."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Import what is large inside, for the rest of this process: it takes a quarter less time.

    Torch and Lightning come as a million objects that stay. Python's collector would look through all of them again
    and again while they arrive, and at each full collection of the work that follows; here it waits, and then leaves
    them out. They are its own again at exit, where some libraries complain of what is not collected.

    >>> with uncollected():
    ...     gc.isenabled()
    False
    >>> gc.isenabled(), gc.get_freeze_count() > 0
    (True, True)
    """
    wanted = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)
        if wanted:
            gc.enable()
