"""A command line as a process of its own that need not import torch again: forked from a server that has.

`run` stands in for `subprocess.run(words, cwd=…, env=…, capture_output=True, text=True)`. Executed as a program, this
file is the server. A forked process has two things that one started anew has not: the hash seed of the server, so that
of two runs that must agree one is to be started anew; and an end without taking all modules down, which takes 3 s.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

# Read when a program runs, or seen to here; all other variables may be read while Python starts or torch is imported.
LATE = {"PATH", "PYTEST_CURRENT_TEST", "PYTHONPATH", "VAE_LIGHTNING_DATA"}
OWN = {"COLUMNS": "120", "OMP_NUM_THREADS": "1"}  # of every command line
STARTED = dict(os.environ)  # what this process was started with


def environment(**more: str) -> dict[str, str]:
    """The environment of a command line: lines of 120 characters, and one thread, as several share the cores."""
    return {**os.environ, **OWN, **more}


def run(
    words: Sequence[str], cwd: Path, env: Mapping[str, str], timeout: float | None = None, anew: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run `python -m <module> <arguments>`: what it said, and its exit code.

    Args:
        words: the command line.
        cwd: where it runs.
        env: all of its environment.
        timeout: in seconds.
        anew: with an interpreter of its own; so are those with an environment that is not the server's.

    Raises:
        subprocess.TimeoutExpired: it took longer, and was killed.
    """
    _, flag, module, *arguments = words
    anew = anew or sys.platform != "linux" or flag != "-m"
    if anew or not (server := _server(sys.executable)).suits(env):
        return subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout)
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder, "stdout"), Path(folder, "stderr")]
        wanted = {"module": module, "arguments": arguments, "cwd": str(cwd), "env": dict(env)}
        code = server.run({**wanted, "said": [str(path) for path in said]}, timeout)
        return subprocess.CompletedProcess(words, code, *(path.read_text() for path in said))


class Server:
    """The process that has imported everything, and its two pipes."""

    def __init__(self, python: str) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
        self.env = {**STARTED, **OWN}
        self.process = subprocess.Popen([python, __file__], env=self.env, process_group=0, **pipes)
        atexit.register(self.process.communicate)  # it ends where its input does

    def suits(self, env: Mapping[str, str]) -> bool:
        """Whether a process with this environment can be forked from this one."""
        early, ours = ({k: v for k, v in e.items() if k not in LATE} for e in (env, self.env))
        path = self.env.get("PYTHONPATH")
        return early == ours and (path is None or env.get("PYTHONPATH") == path)

    def run(self, wanted: dict[str, Any], timeout: float | None) -> int:
        """The exit code of a command line. Raises as `run`."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(wanted).encode() + b"\n")
        pid = self._answer(None)
        try:
            return self._answer(timeout)
        except BaseException as error:
            os.killpg(pid, signal.SIGKILL)
            self._answer(None)
            if isinstance(error, TimeoutError):
                raise subprocess.TimeoutExpired(wanted["arguments"], timeout or 0) from None
            raise

    def _answer(self, timeout: float | None) -> int:
        """The next number that the server says."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], timeout)[0]:
            raise TimeoutError
        line = self.process.stdout.readline()
        assert line, "the server has ended: what it said is in the standard error of the tests"
        return int(line)


_server = cache(Server)


def _imported() -> None:
    """Import what a training imports, in the order that matters."""
    import logging

    root, hydra = logging.getLogger(), logging.NullHandler()
    root.addHandler(hydra)  # Lightning takes a handler of its own where Hydra's is not there yet
    for module in ("sklearn.datasets", "vae_lightning.train"):
        importlib.import_module(module)
    root.removeHandler(hydra)
    gc.freeze()  # a collection in a new process does not write to the pages that all share
    assert len(os.listdir("/proc/self/task")) == 1, "a process with threads cannot be forked"


def _asked(requests: BinaryIO, replies: int) -> dict[str, Any]:
    """Wait for requests; say the number of each process, then its exit code. Returns in the new processes alone."""
    while line := requests.readline():
        if (pid := os.fork()) == 0:
            os.close(replies)
            requests.close()
            return dict(json.loads(line))
        os.setpgid(pid, pid)
        os.write(replies, b"%d\n" % pid)
        _, status = os.waitpid(pid, 0)
        os.write(replies, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(cwd: str, env: dict[str, str], said: list[str]) -> None:
    """Have a folder, an environment, three files and random numbers as a program has that was just started."""
    import numpy as np

    os.chdir(cwd)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever has started the server in the background
    old = os.environ.get("PYTHONPATH")
    os.environ.clear()
    os.environ.update(env)
    for number, path in enumerate([os.devnull, *said]):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    new = env["PYTHONPATH"].split(os.pathsep) if "PYTHONPATH" in env and env["PYTHONPATH"] != old else []
    sys.path[:0] = [os.getcwd(), *map(os.path.abspath, new)]
    np.random.seed()  # noqa: NPY002  # Python's own generator does so itself; that of torch starts at a constant


def _ended(module: str) -> int:
    """The exit code of a module, as the interpreter has it."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


if __name__ == "__main__":
    del sys.path[0]  # the folder of the tests
    files = os.fdopen(os.dup(0), "rb"), os.dup(1)
    os.dup2(2, 1)
    _imported()
    from vae_lightning import child

    asked = _asked(*files)
    module, arguments = asked.pop("module"), asked.pop("arguments")
    _become(**asked)
    child._leads = True  # what it starts itself is forked from it, too
    sys.argv[1:] = arguments
    code = _ended(module)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
