"""A command line on a disk that is full, or cannot be written: `python -m disk_harm <how> <bytes> <arguments>`.

It is copied into the folder where it runs; there `disk` is what the harm is done to:

- `limit`: no file may grow beyond so many bytes.
- `full`: `disk` is a file system of so many bytes, that only this process sees. What it leaves is copied to `left`.
- `read-only`: likewise of what is in `disk`, which cannot be written.
- `nobody`: nothing here may be written: the process belongs to somebody else, or `disk` may not be written.

Exit code 77: this machine does not let us.
"""

from __future__ import annotations

import ctypes
import os
import resource
import runpy
import shutil
import sys
from pathlib import Path

NEW_NAMESPACE, READ_ONLY, REMOUNT, BIND, PRIVATE = 0x20000, 1, 32, 4096, 1 << 18 | 1 << 14
IMPOSSIBLE = 77


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    words = [word.encode() if word is not None else None for word in (source, target, kind)]
    if libc.mount(*words, ctypes.c_ulong(flags), data.encode()):
        raise OSError(ctypes.get_errno(), "mount")


def harm(how: str, size: int) -> None:
    disk = str(Path("disk").absolute())
    if how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    elif how == "nobody":
        if os.geteuid():
            os.chmod(disk, 0o500)
            return
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        Path(os.__file__).read_bytes()  # Python itself may lie where nobody else can read it
    else:
        if ctypes.CDLL(None, use_errno=True).unshare(NEW_NAMESPACE):
            raise OSError(ctypes.get_errno(), "unshare")
        mount("none", "/", None, PRIVATE)
        if how == "full":
            mount("none", disk, "tmpfs", 0, f"size={size}")
        else:
            mount(disk, disk, None, BIND)
            mount(disk, disk, None, BIND | REMOUNT | READ_ONLY)


if __name__ == "__main__":
    how, size = sys.argv[1], int(sys.argv[2])
    del sys.argv[1:3]
    try:
        harm(how, size)
    except OSError as error:
        print(error, file=sys.stderr)
        sys.exit(IMPOSSIBLE)
    try:
        runpy.run_module("vae_lightning", run_name="__main__", alter_sys=True)
    finally:
        if how == "full":
            shutil.copytree("disk", "left")
