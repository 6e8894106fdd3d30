"""Charts of the latents: where images lie, and which codes they use."""

from __future__ import annotations

from typing import Literal

import torch
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from torch import Tensor

from vae_lightning.picture.canvas import BLUE, GREY, MANY, canvas, styled
from vae_lightning.picture.subject import Subject

MARKERS = "o^sDv"  # five labels have the same
LEGEND = 50  # labels that can be told apart
OUTLINE = [withStroke(linewidth=4, foreground="white")]


@styled
def latents(subject: Subject, projection: Literal["pca", "tsne"] = "pca") -> Figure:
    """Where the means of q(z | x) lie, by label: themselves in the plane, or projected onto it.

    Args:
        subject: whose.
        projection: of more than two numbers: on the directions of the largest variance, or t-SNE, van der Maaten and
            Hinton (2008), which keeps neighbours together and is slow.
    """
    mean, y = subject.encoded.mean.flatten(1).double().cpu(), subject.y.cpu()
    names, note = ("$z_0$", "$z_1$"), ""
    if mean.shape[1] == 1:
        mean, names = torch.cat([mean, y.unsqueeze(1).double()], 1), ("$z_0$", "label")
    elif mean.shape[1] > 2 and projection == "tsne":
        mean, names, note = _tsne(mean), ("", ""), f", t-SNE of {mean.shape[1]} dimensions"
    elif mean.shape[1] > 2:
        dims = mean.shape[1]
        subject.reseed()
        mean, shares = pca(mean)
        names = tuple(f"component {i + 1}, {share:.0%} of the variance" for i, share in enumerate(shares))  # type: ignore[assignment]
        note = f": 2 principal components of {dims} dimensions, {sum(shares):.0%} of the variance"
    figure = canvas(900)
    axes = figure.subplots()
    labels = y.unique().tolist()
    few = len(labels) <= len(MANY)
    for i, label in enumerate(labels):
        mine = mean[y == label]
        color, marker = MANY[i % len(MANY)], MARKERS[i // 5 % len(MARKERS)]
        axes.scatter(mine[:, 0], mine[:, 1], 16, color, marker=marker, alpha=0.7, lw=0, label=str(label))
        if few and len(labels) > 1:
            across, up = mine.median(0).values.tolist()
            axes.text(across, up, str(label), fontsize=16, weight="bold", path_effects=OUTLINE)
    if 1 < len(labels) <= LEGEND:
        axes.legend(title="label", loc="upper left", bbox_to_anchor=(1, 1), markerscale=2, ncols=1 + len(labels) // 26)
    axes.set(title=f"Means of q(z | x) for {len(mean)} images{note}", xlabel=names[0], ylabel=names[1])
    if subject.encoded.mean[0].numel() == 2:
        axes.set_aspect("equal", "datalim")
    return figure


def pca(z: Tensor, n: int = 2) -> tuple[Tensor, list[float]]:
    """z (N, D) on its first n principal components, (N, n), and their shares of the variance.

    >>> z, shares = pca(torch.tensor([[3.0, 0.0, 0.0], [-3.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, -1.0, 0.0]]))
    >>> [round(share, 3) for share in shares]
    [0.9, 0.1]
    """
    z = z - z.mean(0)
    _, sizes, directions = torch.pca_lowrank(z, min(100, *z.shape), center=False)  # exact up to 100 dimensions
    total = z.square().sum().clamp(min=torch.finfo(z.dtype).tiny)
    return z @ directions[:, :n], (sizes[:n].square() / total).tolist()


def _tsne(z: Tensor) -> Tensor:
    from sklearn.manifold import TSNE  # takes a second to import

    return torch.from_numpy(TSNE(init="pca", random_state=0).fit_transform(z.numpy()))


@styled
def codes(subject: Subject) -> Figure | None:
    """How often each code of a codebook is used, if there is one."""
    index = subject.encoded.codes
    n_codes = getattr(subject.model.infer.posterior, "n_codes", None)
    if index is None or n_codes is None:
        return None
    share = use(index, n_codes)
    figure = canvas(500)
    axes = figure.subplots()
    axes.bar(range(n_codes), (100 * share.sort(descending=True).values).numpy(), width=1.0, color=BLUE, lw=0)
    axes.axhline(100 / n_codes, color=GREY, ls="--")
    axes.annotate("all alike", (n_codes - 0.5, 100 / n_codes), (0, 4), textcoords="offset points", ha="right")
    used = int((share > 0).sum())
    title = f"{used} of {n_codes} codes in use on {len(index)} images, perplexity {perplexity(share):.1f}"
    axes.set(title=title, xlabel="codes, by use", ylabel="% of all positions")
    axes.margins(x=0.01)
    return figure


def use(index: Tensor, n_codes: int) -> Tensor:
    """The share of each code, (n_codes,), among indices of any shape."""
    return index.flatten().bincount(minlength=n_codes).double().cpu() / index.numel()


def perplexity(share: Tensor) -> float:
    """exp of the entropy: how many codes there would be, if all were used alike.

    >>> perplexity(torch.tensor([0.5, 0.5, 0.0]))
    2.0
    """
    return float(torch.special.entr(share).sum().exp())
