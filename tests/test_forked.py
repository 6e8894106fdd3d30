"""A forked command line is what one started anew is: same words, same end, same surroundings."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import forked
import pytest

PROGRAM = """
import atexit, logging, os, signal, sys, time, warnings
import mine
LOGGERS = ["lightning.pytorch", "lightning.fabric", "vae_lightning"]
atexit.register(lambda: print("left", flush=True))
print(__name__, __spec__.name, sys.argv, mine.__file__, sys.path[0], os.getcwd(), os.environ["VAE_LIGHTNING_DATA"])
print(sys.flags, sys.stdin.read(), sys.stdout.encoding, sys.stdout.isatty(), sys.stdout.line_buffering)
print(logging.getLogger().handlers, logging.getLogger().level, [f for f in warnings.filters if f[0] == "error"])
print([(logging.getLogger(name).handlers, logging.getLogger(name).propagate) for name in LOGGERS])
print("aside", file=sys.stderr)
class Broken(Exception): pass
ends = {
    "nothing": lambda: None, "number": lambda: sys.exit(3), "words": lambda: sys.exit("a word"), "kill":
    lambda: os.kill(os.getpid(), signal.SIGTERM), "error": lambda: [][0], "sleep": lambda: time.sleep(60),
    "none": sys.exit, "large": lambda: sys.exit(258),
}
if __name__ == "__main__":
    ends[sys.argv[1]]()
"""
SEEN = "import os, sys\nprint('torch' in sys.modules, sys.argv[0] == __file__, os.environ['OMP_NUM_THREADS'])\n"


DRAW = "import random\nimport numpy as np\nprint(random.random(), np.random.rand())\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder with programs, one of which imports a module from elsewhere."""
    cwd = tmp_path_factory.mktemp("forked")
    (cwd / "lib").mkdir()
    (cwd / "lib" / "mine.py").write_text("")
    (cwd / "program.py").write_text(PROGRAM)
    (cwd / "seen.py").write_text(SEEN)
    (cwd / "draw.py").write_text(DRAW)
    return cwd, forked.environment(PYTHONPATH="lib", VAE_LIGHTNING_DATA=str(cwd))


def told(text: str) -> list[str]:
    """What a program says, and of a traceback the last line."""
    lines = text.splitlines()
    return [line for line in lines if not line.startswith((" ", "Traceback"))]


@pytest.mark.parametrize("end", ["nothing", "none", "number", "large", "words", "kill", "error"])
def test_it_ends_as_one_started_anew(end: str, place: tuple[Path, dict[str, str]]) -> None:
    cwd, env = place
    words = [sys.executable, "-m", "program", end, "a b"]
    a, b = (forked.run(words, cwd, env, timeout=60, anew=anew) for anew in (False, True))
    assert a.stdout == b.stdout
    assert told(a.stderr) == told(b.stderr) != []
    assert a.returncode == b.returncode


@pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux only")
def test_what_is_forked_and_what_is_not(place: tuple[Path, dict[str, str]]) -> None:
    cwd, env = place
    for arguments, variables, whether in (
        (["loss.beta=4"], {}, "True True 1"),
        ([], {"OMP_NUM_THREADS": "2"}, "False True 2"),
    ):
        done = forked.run([sys.executable, "-m", "seen", *arguments], cwd, {**env, **variables}, timeout=60)
        assert done.stdout.strip() == whether, arguments


def test_each_draws_other_numbers(place: tuple[Path, dict[str, str]]) -> None:
    cwd, env = place
    draws = [forked.run([sys.executable, "-m", "draw"], cwd, env, timeout=60).stdout.split() for _ in range(2)]
    assert all(a != b for a, b in zip(*draws, strict=True))
    assert len(draws[0]) == 2


def test_it_is_killed_when_its_time_is_up_and_the_next_one_runs(place: tuple[Path, dict[str, str]]) -> None:
    cwd, env = place
    start = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        forked.run([sys.executable, "-m", "program", "sleep"], cwd, env, timeout=0.5)
    assert time.monotonic() - start < 30
    assert forked.run([sys.executable, "-m", "program", "number"], cwd, env, timeout=60).returncode == 3
