"""Stop when nothing gets better."""

from __future__ import annotations

from lightning.pytorch.callbacks import EarlyStopping

from vae_lightning.schema import Count, NonNegative


def early_stopping(patience: Count = 10, min_delta: NonNegative = 0.0) -> EarlyStopping:
    """Ends the run after `patience` validations whose loss was not lower by `min_delta` nats."""
    return EarlyStopping("val/loss", min_delta, patience, mode="min", check_finite=False)
