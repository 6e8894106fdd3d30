"""Writes down what a process and all its children do to files, sockets and other programs.

Python imports a module of this name by itself where it finds one on PYTHONPATH. The log, a line of JSON for each event,
is the file that AUDIT_LOG names.
"""

import json
import os
import sys

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FILES = {  # event -> which of its arguments are paths, and which say what folder they are seen from
    "os.mkdir": {0: 2}, "os.rename": {0: 2, 1: 3}, "os.remove": {0: 1}, "os.rmdir": {0: 1}, "os.symlink": {1: 2},
    "os.link": {1: 3}, "os.chmod": {0: 2}, "os.chown": {0: 3}, "os.truncate": {0: None}, "os.utime": {0: 3},
    "os.setxattr": {0: None}, "sqlite3.connect": {0: None},
}  # fmt: skip
SOCKETS = {"socket.bind", "socket.connect", "socket.sendto"}
LOOK_UPS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}
PROGRAMS = {"subprocess.Popen", "os.exec", "os.posix_spawn", "os.system"}


def install(path: str) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(event: str, *said: object) -> None:
        line = json.dumps([os.getpid(), event, *said], default=repr) + "\n"
        os.write(log, line.encode())

    def absolute(name: object, seen_from: object = -1) -> str:
        if isinstance(name, int):
            return os.readlink(f"/proc/self/fd/{name}")
        text = os.fsdecode(name) if isinstance(name, bytes | os.PathLike) else str(name)
        known = isinstance(seen_from, int) and seen_from >= 0
        return os.path.join(os.readlink(f"/proc/self/fd/{seen_from}") if known else os.getcwd(), text)

    def hook(event: str, args: tuple) -> None:
        if event == "open":
            name, _, flags = args
            if flags & WRITING and not isinstance(name, int):
                note(event, absolute(name))
        elif event in FILES:
            for i, j in FILES[event].items():
                note(event, absolute(args[i], args[j] if j is not None else -1))
        elif event in SOCKETS:
            note(event, args[0].family.name, args[1])
        elif event in LOOK_UPS:
            note(event, args[0])
        elif event in PROGRAMS:
            note(event, *args[:2])

    sys.addaudithook(hook)


if "AUDIT_LOG" in os.environ:
    install(os.environ["AUDIT_LOG"])
