"""Whose trial it is: a host and a process, and whether that has ended."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def me() -> dict[str, Any]:
    """This process, as `ended` takes it; `since` tells it from a later one of the same number, where that is known."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": _since(os.getpid())}


def ended(owner: Mapping[str, Any]) -> bool:
    """Whether `owner` was a process of this host that is gone. Of another host nothing is known, so it is not.

    >>> ended(me()), ended({**me(), "since": "0"}), ended({**me(), "host": "elsewhere", "pid": 0})
    (False, True, False)
    """
    if owner.get("host") != socket.gethostname():
        return False
    try:
        pid = int(owner["pid"])
        os.kill(pid, 0)
    except (ProcessLookupError, KeyError, TypeError, ValueError, OverflowError):  # gone, or never a process
        return True
    except PermissionError:
        return False
    since = _since(pid)
    return since == "" or owner.get("since", since) != since


def _since(pid: int) -> str | None:
    """When it was started, in ticks; "" if it has ended and nobody has noticed; None where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "" if fields[0] in ("Z", "X") else fields[19]
