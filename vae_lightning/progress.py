"""A bar for work that takes longer than a moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track as rich_track

Item = TypeVar("Item")
console = Console(stderr=True)


def track(items: Iterable[Item], what: str, total: float | None = None) -> Iterator[Item]:
    """`items`, one after the other, with a bar on the terminal that goes away at the end.

    >>> sum(track([1, 2], "adding"))
    3
    """
    yield from rich_track(items, what, total, console=console, transient=True, disable=not console.is_terminal)
