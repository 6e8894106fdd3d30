"""Overrides as text: the key that one sets, and a value that may hold anything."""

from __future__ import annotations

import re

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException


def key(argument: str) -> str | None:
    """The key that an override sets; None for a flag.

    >>> key("+loss.beta=4"), key("--help")
    ('loss.beta', None)
    """
    if argument.startswith("-"):
        return None
    try:
        return OverridesParser.create().parse_override(argument).key_or_group
    except HydraException:
        return None


def quoted(text: object) -> str:
    """A value of an override that means just this text. A backslash is one; those before a quote are doubled.

    >>> print(quoted("it's"), quoted("a=b,c"))
    'it\\'s' 'a=b,c'
    """
    return "'" + re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), str(text)) + "'"
