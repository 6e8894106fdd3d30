"""Overrides as text: what one says, the key that it sets, and a value that may hold anything."""

from __future__ import annotations

import re

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from vae_lightning.errors import ConfigError, first_line


def parsed(text: str) -> Override:
    """What an override says.

    >>> parsed("loss.beta=four words").value()
    'four words'

    Raises:
        ConfigError: it cannot be read; says how to write it, where that is known.
    """
    try:
        return OverridesParser.create().parse_override(text)
    except RecursionError:
        why = "too many brackets in each other"
    except (HydraException, ValueError) as error:  # a number of more digits than Python reads is a ValueError
        why = first_line(error)
    hint = _in_quotes(text)
    raise ConfigError(f"{text}: not of the form key=value ({why})" + (f"; if it is a text, say {hint}" if hint else ""))


def _in_quotes(text: str) -> str | None:
    """`text` with its value in quotes, for a shell, if that makes it an override."""
    name, equals, value = text.partition("=")
    if not equals or not value or set(value) & set("'\"\\$`!") or not value.isprintable():
        return None
    try:
        OverridesParser.create().parse_override(f"{name}='{value}'")
    except HydraException:
        return None
    return f"\"{name}='{value}'\""


def key(argument: str) -> str | None:
    """The key that an override sets; None for a flag.

    >>> key("+loss.beta=4"), key("--help")
    ('loss.beta', None)
    """
    if argument.startswith("-"):
        return None
    try:
        return parsed(argument).key_or_group
    except ConfigError:
        return None


def quoted(text: object) -> str:
    """A value of an override that means just this text. A backslash is one; those before a quote are doubled.

    >>> print(quoted("it's"), quoted("a=b,c"))
    'it\\'s' 'a=b,c'
    """
    return "'" + re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), str(text)) + "'"
