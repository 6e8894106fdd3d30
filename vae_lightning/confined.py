"""What libraries would write or send by themselves, and are asked not to."""

from __future__ import annotations

import os
import socket
from pathlib import Path

ROOT = "~/.cache/vae_lightning"  # as conf/data has it


def confine() -> None:
    """Called before torch or onnxruntime is imported; what the user has set himself stays.

    onnxruntime keeps a number of this machine in the user's cache and reports to its makers. torch loads what it has
    compiled from a folder in /tmp whose name everybody knows, and whoever is first there may put code into it.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    root = Path(os.environ.get("VAE_LIGHTNING_DATA", ROOT)).expanduser()
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(root / "compiled"))


def stay_here() -> None:
    """Processes of this machine meet on its loopback interface: gloo and NCCL would take one that others see too."""
    names = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME") if names else ():
        os.environ.setdefault(variable, names[0])
