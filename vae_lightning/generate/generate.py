"""Images that trained models make: PNG, GIF and numbers in their run folders."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.distributions import Distribution

from vae_lightning.atomic import replaced
from vae_lightning.build import make
from vae_lightning.errors import ConfigError, UserError
from vae_lightning.generate.asked import Asked, Made, values
from vae_lightning.paths import expanded
from vae_lightning.picture.grid import save_gif, save_png, tile
from vae_lightning.resume import run_folders
from vae_lightning.schema import Count, NonNegativeInt, Positive, Seed
from vae_lightning.trained import Trained

SHOWN = 400  # images in a PNG; the .npz has all
MILLISECONDS = 120  # a frame


def generate(
    run: str | list[str],
    what: dict[str, Any],
    sampler: dict[str, Any],
    n: Count = 64,
    images: list[NonNegativeInt] | None = None,
    files: list[str] | None = None,
    invert: bool = False,
    label: NonNegativeInt | None = None,
    draw: bool = False,
    steps: Count = 10,
    path: Literal["linear", "spherical"] = "linear",
    span: Positive = 3.0,
    dims: Count | list[NonNegativeInt] = 10,
    plus: NonNegativeInt | None = None,
    minus: NonNegativeInt | None = None,
    out: str | None = None,
    seed: Seed = 0,
    root: str | None = None,
    device: str = "auto",
) -> list[Path]:
    """Make images with one or several models.

    Args:
        run: run folders, checkpoints, or folders of sweeps.
        what: is made, as a configuration of `conf/what`.
        sampler: where z is drawn from, as a configuration of `conf/sampler`.
        n: samples, or test images to reconstruct.
        images: which test images, counted from 0.
        files: own image files.
        invert: of these: light becomes dark, and dark light.
        label: of what is made, if the model is conditional.
        draw: pixels are drawn from p(x|z), in place of its mean.
        steps, path, span, dims, plus, minus: where `what` says `${steps}` and so on.
        out: a folder in place of `generated/` in the run folder.
        seed: of all draws, and of what is fitted.
        root: where the data are, if not where they were in training.
        device: `auto`, `cpu`, `cuda`, ...

    Returns:
        The files that were written.

    Raises:
        ConfigError: there is no such run, image or label, or this has no meaning for the model.
        UserError: a file is damaged.
    """
    Distribution.set_default_validate_args(False)
    folders = run_folders(run)
    if out is not None and len(folders) > 1:
        raise ConfigError(f"out={out}: {len(folders)} runs would overwrite each other's images; leave it out")
    maker, written = make(what), []
    settings = {key: value for key, value in locals().items() if key in generate.__annotations__ and key != "run"}
    for folder in folders:
        trained = Trained(folder, root, device)
        torch.manual_seed(seed)  # after the model was built, which draws weights
        made = maker(Asked(trained, make(sampler), n, images, files, invert, label, draw))
        target = trained.folder / "generated" if out is None else expanded(out)
        written += write(made, target, settings, pictures=values(trained) == "pixels")
    return written


def write(made: Made, folder: Path, settings: dict[str, Any], pictures: bool = True) -> list[Path]:
    """A PNG, a GIF where there is movement, and an .npz: images, z, and `settings` as JSON; says where they are."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror})") from error
    path = folder / f"{made.name}.npz"
    numbers = {"images": made.images, "z": made.z, **(made.numbers or {})}
    arrays: dict[str, Any] = {key: _array(value) for key, value in numbers.items()}
    with replaced(path, "wb") as file:
        np.savez(file, **arrays, settings=json.dumps(settings))
    paths = [path]
    if pictures:
        paths.insert(0, path.with_suffix(".png"))
        save_png(tile(made.grid[:SHOWN].clamp(0, 1), made.columns), paths[0])
    if pictures and made.frames:
        paths.insert(1, path.with_suffix(".gif"))
        side = math.ceil(math.sqrt(len(made.frames[0])))
        save_gif([tile(frame.clamp(0, 1), side) for frame in made.frames], paths[1], MILLISECONDS)
    console = Console()
    for each in paths:
        console.print(str(each), soft_wrap=True, highlight=False)
    if made.note:
        console.print(f"[dim]{made.note}", soft_wrap=True, highlight=False)
    return paths


def _array(value: Tensor) -> np.ndarray:
    return (value.float() if value.is_floating_point() else value).cpu().numpy()
