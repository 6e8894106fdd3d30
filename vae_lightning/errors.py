"""Errors that are told to the user in words, without a traceback."""

import errno

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_DISK = (*NO_ROOM, errno.EROFS, errno.EACCES, errno.EIO)


def first_line(error: Exception) -> str:
    """What an error of OmegaConf or Hydra says, without the state of their insides that follows."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def of_disk(error: BaseException | None) -> OSError | None:
    """What the disk said, if that is what is behind `error`: it is full, or cannot be written or read.

    >>> try:
    ...     raise OSError(errno.ENOSPC, "No space left on device", "run/last.ckpt")
    ... except OSError:
    ...     try:
    ...         raise RuntimeError("unexpected pos 10048 vs 9942")
    ...     except RuntimeError as error:
    ...         print(of_disk(error))
    [Errno 28] No space left on device: 'run/last.ckpt'
    """
    while error is not None and not (isinstance(error, OSError) and error.errno in NO_DISK):
        error = error.__cause__ or error.__context__
    return error


class UserError(Exception):
    """Something outside the program is not as it should be; the message says what to do."""

    exit_code = 1


class ConfigError(UserError):
    """The configuration cannot work; nothing was run."""

    exit_code = 2


class NonFiniteError(UserError):
    """A number became infinite or NaN; it reached neither weights nor checkpoints."""
