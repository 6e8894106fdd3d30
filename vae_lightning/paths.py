"""Where `conf/` is, beside the package in a checkout, inside it in a wheel; and what a path of a user's means."""

import os
from pathlib import Path

PACKAGE = Path(__file__).parent
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"


def expanded(path: str | Path) -> Path:
    """`path` with the home of a user in place of ~; where there is no such user, ~ is the name of a file.

    >>> expanded("~nobody_of_this_name/x").as_posix()
    '~nobody_of_this_name/x'
    """
    return Path(os.path.expanduser(path))


def no_file(path: Path) -> str | None:
    """Why there is no file at `path`; None if there is one.

    >>> no_file(Path("nowhere")), no_file(PACKAGE)
    ('there is no such file', 'is a folder, not a file')
    """
    if os.path.isfile(path):
        return None
    if os.path.isdir(path):
        return "is a folder, not a file"
    if os.path.islink(path):
        return "is a link that leads nowhere"
    return "is no plain file" if os.path.exists(path) else "there is no such file"
