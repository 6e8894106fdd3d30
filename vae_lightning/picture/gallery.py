"""All pictures of a trained model, into a folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from matplotlib.figure import Figure

from vae_lightning.picture.canvas import Sheet, save
from vae_lightning.picture.curve import Measured, curves, rates
from vae_lightning.picture.grid import save_gif
from vae_lightning.picture.image import pseudo_inputs, reconstructions, samples, spread
from vae_lightning.picture.latent import codes, latents
from vae_lightning.picture.path import interpolations, manifold, traversal_frames, traversals
from vae_lightning.picture.subject import Subject

log = logging.getLogger("vae_lightning")

# Each says None where it has no meaning.
SHEETS: Mapping[str, Callable[[Subject], Sheet | None]] = {
    each.__name__: each
    for each in (reconstructions, samples, spread, traversals, interpolations, manifold, pseudo_inputs)
}
CHARTS: Mapping[str, Callable[[Subject], Figure | None]] = {each.__name__: each for each in (latents, codes)}


def draw(subject: Subject, folder: Path, history: Sequence[Measured] = (), metrics: Path | None = None) -> None:
    """Every picture that has a meaning for this model, as PNG (and one as GIF).

    A picture that fails is named in a warning, and the others are drawn: it must not cost a trained run.

    Args:
        subject: whose.
        folder: where to, made if it is not there.
        history: the rates of the variables of z at each validation.
        metrics: the run's metrics.csv.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, sheet in SHEETS.items():
        with attempt(name):
            found = sheet(subject)
            _keep(None if found is None else found.figure(), folder / f"{name}.png")
    for name, chart in CHARTS.items():
        with attempt(name):
            _keep(chart(subject), folder / f"{name}.png")
    with attempt("rates"):
        _keep(rates(history), folder / "rates.png")
    if metrics is not None:
        with attempt("curves"):
            _keep(curves(metrics), folder / "curves.png")
    with attempt("traversals.gif"):
        frames = traversal_frames(subject)
        if frames is not None:
            save_gif(frames, folder / "traversals.gif")


@contextmanager
def attempt(name: str) -> Iterator[None]:
    """What fails inside is a warning that names the picture."""
    try:
        yield
    except Exception as error:  # whatever it is
        log.warning("the picture %r was not made: %s: %s", name, type(error).__name__, error)
        log.debug("", exc_info=True)


def _keep(figure: Figure | None, path: Path) -> None:
    if figure is not None:
        save(figure, path)
