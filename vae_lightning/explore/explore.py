"""A page on this machine to move through the latents of a trained model."""

from __future__ import annotations

import logging
import os
import signal
import socket
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from torch.distributions import Distribution

from vae_lightning.errors import ConfigError, UserError
from vae_lightning.explore.space import Space
from vae_lightning.resume import run_folders
from vae_lightning.sampler.sampler import space
from vae_lightning.schema import Count, Seed
from vae_lightning.trained import Trained

HOST = "127.0.0.1"

log = logging.getLogger("vae_lightning")


def explore(
    run: str | list[str],
    port: Count | None = 7860,
    open_browser: bool = False,
    images: Count = 2000,
    sliders: Count = 16,
    seed: Seed = 0,
    root: str | None = None,
    device: str = "auto",
) -> None:
    """Serve a page with sliders, the plane of the latents and a sheet to draw on, until Ctrl-C.

    Args:
        run: a run folder, or a checkpoint in it.
        port: of 127.0.0.1; None: a free one.
        open_browser: show the page at once.
        images: test images in the plane.
        sliders: latents to be moved one by one, at most: those that say most of the image.
        seed: of the samples of the prior.
        root: where the data are, if not where they were in training.
        device: `auto`, `cpu`, `cuda`, ...

    Raises:
        ConfigError: there is no such run, or there are several.
        UserError: the data are no images, the latents no numbers; gradio is missing; the port is taken.
    """
    folders = run_folders(run)
    if len(folders) > 1:
        raise ConfigError(f"run: one at a time, and these are {len(folders)}; say run={folders[0]}, for one")
    if port is not None:
        check_free(port)
    Distribution.set_default_validate_args(False)
    with quiet(), tempfile.TemporaryDirectory(prefix="vae_lightning_") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            from vae_lightning.explore.page import CSS, THEME, build
        except ImportError as error:
            raise UserError(f'explore needs gradio ({error}); say pip install "vae-lightning[app]"') from error
        trained = explorable(Trained(folders[0], root, device))
        blocks = build(Space(trained, images, sliders, seed), _title(trained))
        blocks.launch(
            server_name=HOST,
            server_port=port,
            inbrowser=open_browser,
            share=False,
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
            footer_links=[],
            theme=THEME,
            css=CSS,
        )
        log.info("%s is at %s (Ctrl-C ends it)", folders[0], blocks.local_url)
        try:
            wait()
        finally:
            blocks.close(verbose=False)


def check_free(port: int) -> None:
    """Nothing, if this port of this machine can be had.

    Raises:
        UserError: it cannot.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that has just ended is no hindrance
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise UserError(
                f"port={port}: another program has it, or nobody may; say port=null for a free one"
            ) from error


def explorable(trained: Trained) -> Trained:
    """The same, if its data are images and its latents numbers.

    Raises:
        UserError: they are not.
    """
    if space(trained) not in ("real", "sphere"):
        raise UserError(
            f"{trained.folder}: a slider moves a number, and the latents of posterior={trained.choices['posterior']} "
            "are none; explore a run with posterior=normal, for one"
        )
    if trained.data.train[0].is_floating_point():
        raise UserError(f"{trained.folder}: the page shows images, and data={trained.choices['data']} has none")
    return trained


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, neither warnings nor requests are told, nothing is reported to anyone, and no proxy is asked."""
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), HOST]))
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def wait() -> None:
    """Until Ctrl-C, or until the program is asked to end."""
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, end)
    while not ended.wait(0.5):  # in portions, as no signal arrives in an endless wait on Windows
        pass


def _title(trained: Trained) -> str:
    choices = trained.choices
    said = " · ".join(f"{group}={choices[group]}" for group in ("data", "model", "posterior", "prior", "likelihood"))
    name = "/".join(trained.folder.resolve().parts[-2:])  # a job of a sweep is called 0, 1, ...
    return f"### The latents of {name} &nbsp; <small>{said}</small>"
