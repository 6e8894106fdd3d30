"""Images side by side, and how they get into files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from vae_lightning.atomic import replaced

GAP = 2  # between two images, in their own pixels
GREYS = 31  # in a GIF, which cannot pack more of them well


def tile(images: Tensor, columns: int, gap: int = GAP) -> Tensor:
    """Images (N, C, H, W) in [0, 1], row by row, with white gaps: (C, H', W'); one channel becomes three.

    >>> import torch
    >>> tile(torch.zeros(6, 1, 8, 8), columns=3).shape
    torch.Size([3, 22, 32])
    """
    return make_grid(images.detach().cpu(), columns, padding=gap, pad_value=1)


def save_png(image: Tensor, path: str | Path, width: int = 1200) -> None:
    """An image (C, H, W) in [0, 1] as PNG, enlarged by a whole factor as long as it is not wider than `width`."""
    with replaced(Path(path), "wb") as file:
        pillow(image, width).save(file, "PNG")


def save_gif(frames: Sequence[Tensor], path: str | Path, milliseconds: int = 80, width: int = 600) -> None:
    """Frames (C, H, W) in [0, 1], each shown for so long, as a GIF that starts again at its end; likewise enlarged."""
    first, *rest = [pillow((frame * GREYS).round() / GREYS, width) for frame in frames]
    with replaced(Path(path), "wb") as file:
        first.save(file, "GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0)


def pillow(image: Tensor, width: int = 0) -> Image.Image:
    """An image (C, H, W) in [0, 1] for Pillow, enlarged by a whole factor as long as it is not wider than `width`.

    >>> import torch
    >>> pillow(torch.zeros(3, 2, 4), width=10)
    <PIL.Image.Image image mode=L size=8x4 at ...>
    """
    pixels = image.detach().cpu().clamp(0, 1).mul(255).round().byte().movedim(0, -1)
    grey = (pixels == pixels[..., :1]).all()  # no colours: a third of the bytes, and no palette to be found
    flat = Image.fromarray((pixels[..., 0] if grey else pixels).numpy())
    factor = max(1, width // flat.width)
    return flat.resize((factor * flat.width, factor * flat.height), Image.Resampling.NEAREST)
