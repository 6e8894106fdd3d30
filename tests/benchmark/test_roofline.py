"""Images per second against batch size and width, below the roofline of the machine, as a picture. Run with

    python -m pytest -m benchmark -s tests/benchmark/test_roofline.py

The roofline is what nothing can exceed, even with every operation between two matrix products fused into them:

* operations: `6 P - 2 * 784 * width` per image (P weights; a product forward and two backward, none by the pixels), at
  the rate of a large matrix product;
* bytes: each weight ten times a step (read forward and backward, its gradient written, Adam reads four numbers and
  writes three), pixels and logits nine times an image (pixels written, read by two products and the loss; logits
  written and read; their gradient written, and read by two products), the hidden layers six times each; at the
  bandwidth of a sum of arrays that are as large as all of this together.

The least time of a step is the longer one of the two.
"""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path

import matplotlib as mpl
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmark.harness import QUICK, alternated, machine, products, seconds
from benchmark.loops import Framework, bare_mlp

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("float32")]
PICTURE = Path(__file__).parents[2] / ".github" / "speed.png"
BATCHES = [8, 256] if QUICK else [8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096]
WIDTHS = [100, 400] if QUICK else [100, 200, 400, 800, 1600, 3200]
INK, BLUE, ORANGE, GREY = "#222222", "#0072b2", "#d55e00", "#8a8a8a"  # Okabe and Ito's, which differ for everybody
Curves = dict[int, tuple[float, float, float]]


def operations() -> float:
    """Operations per second of a large product of matrices."""
    n = 256 if QUICK else 2048
    a, b = torch.randn(2, n, n)
    return 2 * n**3 / min(seconds(partial(way, a, b)) for way in products() for _ in range(8))


def bandwidth(size: int) -> float:
    """Bytes per second of c = a + b, three arrays that are `size` bytes together."""
    a, b, c = torch.randn(3, max(1, size // 12))
    return c.nbytes * 3 / min(seconds(lambda: torch.add(a, b, out=c)) for _ in range(50))


def roof(batch_size: int, width: int, peak: float) -> float:
    """The most images per second."""
    weights = 2 * 784 * width + 60 * width + 784 + width + 40 + width
    moved = 4 * (10 * weights + batch_size * (9 * 784 + 12 * width))
    held = 4 * (4 * weights + batch_size * (3 * 784 + 4 * width))
    work = batch_size * (6 * weights - 2 * 784 * width)
    return batch_size / max(work / peak, moved / bandwidth(held))


def measured(folder: Path, root: str, batch_size: int, width: int, peak: float) -> tuple[float, float, float]:
    """Images per second of this framework, of the bare loop, and of the roof."""
    images = 600 if QUICK else min(55_000, max(4 * batch_size, 12_000 * 400 // width))
    said = [f"data.root={root}", f"data.batch_size={batch_size}", f"data.limit={images}", "accelerator=cpu"]
    ours = Framework(folder, *said, f"model.hidden=[{width}]")
    timed = alternated(ours.epoch, bare_mlp(ours.run.data.train[0], batch_size, width).epoch, times=3)
    return 1 / statistics.median(timed.a), 1 / statistics.median(timed.b), roof(batch_size, width, peak)


def draw(axes: Axes, curves: Curves, label: str) -> None:
    x = list(curves)
    framework, bare, top = zip(*curves.values(), strict=True)
    axes.plot(x, top, color=GREY, linestyle="--", linewidth=1.2)
    axes.plot(x, bare, color=ORANGE, marker="s", markersize=5, linewidth=1.4)
    axes.plot(x, framework, color=BLUE, marker="o", markersize=4, linewidth=1.8)
    axes.set(xscale="log", yscale="log", xlabel=label)
    axes.set_xticks(x if len(x) < 8 else x[::2], [f"{n}" for n in (x if len(x) < 8 else x[::2])])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}".replace(",", " ")))
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)


def picture(by_batch: Curves, by_width: Curves, path: Path) -> None:
    """Two panels that share the scale of images per second."""
    with mpl.rc_context({"font.size": 9, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": GREY}):
        figure = Figure((8.4, 3.9), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        draw(left, by_batch, "images per minibatch, width 400")
        draw(right, by_width, "width of the hidden layers, 128 images per minibatch")
        left.set_ylabel("images per second in training")
        names = ["roofline: the most that this machine could do", "bare PyTorch loop", "this framework, full Trainer"]
        figure.legend(left.lines, names, loc="outside upper left", ncols=3, frameon=False)
        figure.supxlabel(machine(), fontsize=7, color=GREY)
        figure.savefig(path, dpi=160)


def test_throughput_below_the_roofline(tmp_path: Path, mnist: str) -> None:
    peak = operations()
    by_batch = {n: measured(tmp_path / f"batch{n}", mnist, n, 400, peak) for n in BATCHES}
    by_width = {n: measured(tmp_path / f"width{n}", mnist, 128, n, peak) for n in WIDTHS}
    print(f"\nmatrix products: {peak / 1e9:.0f} GFLOP/s; 1 GB in memory: {bandwidth(2**30) / 1e9:.0f} GB/s")
    for name, curves in (("batch", by_batch), ("width", by_width)):
        for n, (ours, bare, top) in curves.items():
            print(f"| {name} {n} | {ours:,.0f} | {bare:,.0f} | {top:,.0f} | {ours / top:.0%} |")
    picture(by_batch, by_width, tmp_path / "speed.png" if QUICK else PICTURE)
