"""Errors that are told to the user in words, without a traceback."""

import errno

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def first_line(error: Exception) -> str:
    """What an error of OmegaConf or Hydra says, without the state of their insides that follows."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def of_disk(error: OSError) -> str:
    """What the system says of a file that it cannot read or write, and what to do.

    >>> of_disk(OSError(errno.ENOSPC, "No space left on device", "run/status.json"))
    'run/status.json: No space left on device; free some room, then go on with ckpt=<run folder>'
    """
    what = f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror or str(error)
    if error.errno in NO_ROOM:
        return f"{what}; free some room, then go on with ckpt=<run folder>"
    return f"{what}; name a folder that can be written with hydra.run.dir=<folder>"


class UserError(Exception):
    """Something outside the program is not as it should be; the message says what to do."""

    exit_code = 1


class ConfigError(UserError):
    """The configuration cannot work; nothing was run."""

    exit_code = 2


class NonFiniteError(UserError):
    """A number became infinite or NaN; it reached neither weights nor checkpoints."""
