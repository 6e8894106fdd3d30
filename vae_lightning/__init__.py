"""Train, compare and understand variational autoencoders.

Importing this package loads neither torch nor lightning: `--help` and typing errors do not wait for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["load"]

if TYPE_CHECKING:
    from vae_lightning.checkpoint import load


def __getattr__(name: str) -> Any:
    if name != "load":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vae_lightning.checkpoint import load

    return load
