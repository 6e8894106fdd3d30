"""A figure as text inside a page: it takes the page's colours and fonts, and refers to nothing outside."""

from __future__ import annotations

import io
import re

import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from vae_lightning.report.figure import INK


def inline(figure: Figure, name: str, text: str) -> Markup:
    """The figure as an `<svg>` element.

    Args:
        name: letters; no two figures of a page share it.
        text: what the figure shows, for those who do not see it.
    """
    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    drawn = file.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<style.*?</style>", "", drawn, flags=re.DOTALL)  # it would reach the whole page
    drawn = drawn.replace("xlink:href=", "href=")
    drawn = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", drawn)
    drawn = drawn.replace(INK, "currentColor")
    drawn = re.sub(r'<svg\b[^>]*?(viewBox="[^"]*")[^>]*>', r"<svg \1>", drawn, count=1)  # HTML needs no namespaces
    return Markup(drawn.replace("<svg ", f'<svg role="img" aria-label="{escape(text)}" ', 1))
