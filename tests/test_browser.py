"""Seen in a browser: TensorBoard on a sweep, the report, the explorer. Skipped where there is no Chromium."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
from conftest import command
from PIL import Image

from vae_lightning.report.report import report

playwright = pytest.importorskip("playwright.sync_api", reason='no playwright: pip install "vae-lightning[dev]"')

NAMES = ("chromium", "chromium-browser", "google-chrome")
SLOW = 90_000  # milliseconds
DATA = ["data=digits", "data.limit=300", "data.source.size=16", "model.hidden=[64]", "model.latent_dim=2"]
QUICK = ["trainer.max_epochs=3", "optimizer.lr=0.003", "accelerator=cpu", "trainer.enable_progress_bar=false"]


class Visit:
    """A page, and what it asked for and complained of."""

    def __init__(self, page: Any) -> None:
        self.page, self.asked, self.complaints = page, [], []
        self.waiting: set[Any] = set()  # requests without an answer yet
        page.set_default_timeout(SLOW)
        page.on("request", self._asks)
        for end in ("requestfinished", "requestfailed"):
            page.on(end, lambda request: self.waiting.discard(request))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)

    def _asks(self, request: Any) -> None:
        self.asked.append(request.url)
        if "/heartbeat/" not in request.url:  # the explorer's, which lasts as long as the page
            self.waiting.add(request)

    def rests(self) -> None:
        """Wait until nothing is asked for and every picture stands: a click on one that is being loaded is lost."""
        still, end = 0, monotonic() + SLOW / 1000
        while still < 3:
            assert monotonic() < end, [request.url for request in self.waiting]
            self.page.wait_for_timeout(100)
            ready = not self.waiting and self.page.evaluate("[...document.images].every(i => i.complete)")
            still = still + 1 if ready else 0

    def stayed_here(self, *allowed: str) -> bool:
        """Nothing was asked for elsewhere, and nothing went wrong."""
        abroad = [url for url in self.asked if not url.startswith((*allowed, "data:", "blob:", "about:"))]
        assert abroad == []
        assert self.complaints == []
        return True

    def picture(self, name: str) -> str:
        """The address of the picture that a part of the explorer shows."""
        return str(self.page.locator(f"#{name} img").get_attribute("src"))

    def changes(self, name: str, act: Callable[[], Any]) -> None:
        """Do something once the page rests, and wait until that part shows another picture."""
        self.rests()
        before = self.picture(name)
        act()
        self.page.wait_for_function(
            "([name, before]) => document.querySelector(`#${name} img`).src !== before", arg=[name, before]
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium: install it (Debian: apt install chromium), or say where it is, CHROMIUM=<path>")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Visit]:
    """A new page of 1200 pixels in width; what it shows in the end is `screenshot.png` in the test's folder."""
    context = browser.new_context(viewport={"width": 1200, "height": 1000})
    page = context.new_page()
    yield Visit(page)
    page.screenshot(path=tmp_path / "screenshot.png", full_page=True)
    context.close()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Path:
    """Two jobs, with beta 1 and 4."""
    folder = tmp_path_factory.mktemp("sweep")
    done = command("-m", *DATA, *QUICK, "loss.beta=1,4", f"hydra.sweep.dir={folder}", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@contextmanager
def serving(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server, and its address, once it has said it."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **environment}
    server = subprocess.Popen(
        [sys.executable, "-m", *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert server.stdout is not None
    said = []
    for line in server.stdout:
        said.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
            break
    try:
        assert found, "".join(said)
        yield server, found[0]
    finally:
        server.terminate()
        server.communicate(timeout=30)


# ---- TensorBoard ------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def tensorboard(sweep: Path) -> Iterator[str]:
    with serving("tensorboard.main", "--logdir", str(sweep), "--host", "127.0.0.1", "--port", "0") as (_, address):
        yield address


def test_tensorboard_shows_curves_and_images_of_both_jobs(visit: Visit, tensorboard: str) -> None:
    page = visit.page
    page.goto(f"{tensorboard}#scalars")
    for tag in ("test/elbo", "test/rate"):
        page.get_by_text(f"tag: {tag}", exact=True).wait_for()
    page.goto("about:blank")
    page.goto(f"{tensorboard}#images")
    for tag in ("reconstructions", "samples"):
        page.get_by_text(f"tag: {tag}", exact=True).nth(1).wait_for()  # one for each job
    image = page.locator("img").first
    page.wait_for_function("image => image.naturalWidth > 100", arg=image.element_handle())
    assert visit.stayed_here(tensorboard)


def test_tensorboard_compares_the_jobs_in_a_table(visit: Visit, tensorboard: str, sweep: Path) -> None:
    page = visit.page
    page.goto(f"{tensorboard}#hparams")
    elbos = [json.loads((sweep / job / "results.json").read_text())["test"]["elbo"] for job in ("0", "1")]
    for value in (*elbos, 4.0):
        page.get_by_text(f"{value:#.5g}", exact=True).first.wait_for()
    for name in ("loss.beta", "test/elbo"):
        places = [place.bounding_box() for place in page.get_by_text(name, exact=True).all() if place.is_visible()]
        assert any(place["x"] > 250 for place in places)  # a column of the table, beside the list at the left
    assert visit.stayed_here(tensorboard)


def test_tensorboard_projects_the_latents(visit: Visit, tensorboard: str, tmp_path: Path) -> None:
    page = visit.page
    page.goto(f"{tensorboard}#projector")
    plugin = page.frame_locator("iframe").frame_locator("iframe")
    plugin.get_by_text("297", exact=True).first.wait_for()  # the test images
    plugin.get_by_text("Total variance described: 100.0%").wait_for()
    page.wait_for_timeout(1000)  # the points fade in
    page.screenshot(path=tmp_path / "projector.png")
    middle = np.asarray(Image.open(tmp_path / "projector.png").convert("RGB"))[200:700, 330:880]
    assert (middle.max(2) < 60).mean() > 0.01  # sprites; the axes alone are thin and coloured
    assert visit.stayed_here(tensorboard)


# ---- the report -------------------------------------------------------------------------------------------------
def test_the_report_sorts_and_asks_for_nothing(visit: Visit, sweep: Path, tmp_path: Path) -> None:
    page = visit.page
    address = report(str(sweep), out=str(tmp_path / "report")).absolute().as_uri()
    page.goto(address)
    table = page.locator("table.results").first
    head = table.locator("th[aria-sort]", has_text="loss.beta")
    column = head.evaluate("head => head.cellIndex")

    def order() -> list[str]:
        shown = table.evaluate("(table, i) => [...table.tBodies].map(b => b.rows[0].cells[i].innerText)", column)
        return [re.sub(r"\D", "", text) for text in shown]

    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert order() == ["1", "4"]
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert order() == ["4", "1"]
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert visit.stayed_here(address)


# ---- the explorer -----------------------------------------------------------------------------------------------
def draw(visit: Visit, *points: tuple[float, float]) -> None:
    """A stroke over the sheet, in parts of its size."""
    box, mouse = visit.page.locator("#sheet canvas").bounding_box(), visit.page.mouse
    way = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    mouse.move(*way[0])
    mouse.down()
    for point in way[1:]:
        mouse.move(*point, steps=6)
    mouse.up()


def upload(visit: Visit, path: Path) -> None:
    with visit.page.expect_file_chooser() as chooser:
        visit.page.locator("#upload").click()
    chooser.value.set_files(path)


def test_the_explorer_is_moved_by_sliders_clicks_and_drawings_and_ends_with_ctrl_c(
    visit: Visit, sweep: Path, tmp_path: Path
) -> None:
    if find_spec("gradio") is None:
        pytest.skip('no gradio: pip install "vae-lightning[app]"')
    page, temporary = visit.page, tmp_path / "temporary"
    temporary.mkdir()
    arguments = ["vae_lightning.explore", f"run={sweep / '0'}", "port=null", "images=200"]
    with serving(*arguments, TMPDIR=str(temporary)) as (server, address):
        page.goto(address)
        page.locator("#strip img").wait_for()
        numbers = page.locator("#sliders input[type=number]")
        assert numbers.count() == 2

        def values() -> list[float]:
            return [float(numbers.nth(i).input_value()) for i in range(2)]

        page.locator("#sliders input[type=range]").first.focus()
        before = values()
        visit.changes("picture", lambda: [page.keyboard.press("ArrowRight") for _ in range(40)])
        assert values()[0] == pytest.approx(before[0] + 0.4)
        assert values()[1] == before[1]

        box = page.locator("#plane img").bounding_box()
        visit.changes(
            "picture", lambda: page.mouse.click(box["x"] + 0.3 * box["width"], box["y"] + 0.4 * box["height"])
        )
        first = values()
        visit.changes(
            "picture", lambda: page.mouse.click(box["x"] + 0.7 * box["width"], box["y"] + 0.4 * box["height"])
        )
        page.wait_for_function(
            "before => [...document.querySelectorAll('#sliders input[type=number]')].some(i => +i.value !== before)",
            arg=first[0],
        )
        visit.changes("strip", lambda: page.locator("#walk label", has_text="spherical").click())
        visit.changes("picture", page.locator("#sample").click)

        visit.changes("again", lambda: draw(visit, (0.3, 0.25), (0.7, 0.25), (0.5, 0.8)))
        page.screenshot(path=tmp_path / "drawn.png", full_page=True)
        visit.changes("again", lambda: upload(visit, tmp_path / "drawn.png"))
        text = tmp_path / "text.png"
        text.write_text("no image")
        upload(visit, text)
        page.get_by_text("this is no image that can be read").wait_for()
        assert visit.stayed_here(address)

        assert list(temporary.iterdir()) != []
        server.send_signal(signal.SIGINT)
        said, _ = server.communicate(timeout=30)
        assert server.returncode == 0
        assert said == ""  # no warning, no traceback
        assert list(temporary.iterdir()) == []
