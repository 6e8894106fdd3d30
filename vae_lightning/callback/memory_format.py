"""How images lie in memory on their way through convolutions."""

from __future__ import annotations

from typing import Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from vae_lightning.model.layer import ConvTranspose, ImageDecoder, ImageEncoder

SLOWER = (nn.GLU, nn.GroupNorm)  # torch's kernels for them take up to twice as long, more than convolutions gain


class MemoryFormat(Callback):
    """Has the image networks of a run compute with the channels of a pixel side by side, where that is faster.

    The parameters stay as they are, and so do checkpoints: any run continues any other. Values change by rounding.

    Args:
        channels_last: `auto` where networks are faster so: on the processor in float32 and bfloat16, on GPUs in the
            half precisions, and without gates and group normalisation.
        compile: forward and backward pass are compiled, which finds a layout by itself.
    """

    def __init__(self, channels_last: Literal["auto"] | bool = "auto", compile: bool = False) -> None:
        self.channels_last, self.compile = channels_last, compile

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        faster = _faster(trainer.strategy.root_device.type, trainer.precision)
        faster = faster and not self.compile and not any(isinstance(module, SLOWER) for module in pl_module.modules())
        for module in pl_module.modules():
            if isinstance(module, (ImageEncoder, ImageDecoder, ConvTranspose)):
                module.channels_last = faster if self.channels_last == "auto" else self.channels_last


def _faster(device: str, precision: str) -> bool:
    """
    >>> _faster("cpu", "32-true"), _faster("cpu", "64-true"), _faster("cuda", "32-true"), _faster("cuda", "bf16-mixed")
    (True, False, False, True)
    """
    if device == "cpu":
        return precision in ("32-true", "bf16-mixed") and torch.backends.mkldnn.is_available()
    return device == "cuda" and precision in ("bf16-mixed", "16-mixed")
