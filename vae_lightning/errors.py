"""Errors that are told to the user in words, without a traceback."""


def first_line(error: Exception) -> str:
    """What an error of OmegaConf or Hydra says, without the state of their insides that follows."""
    return (str(error).strip().splitlines() or [""])[0]


class UserError(Exception):
    """Something outside the program is not as it should be; the message says what to do."""

    exit_code = 1


class ConfigError(UserError):
    """The configuration cannot work; nothing was run."""

    exit_code = 2


class NonFiniteError(UserError):
    """A number became infinite or NaN; it reached neither weights nor checkpoints."""
