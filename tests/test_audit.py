"""Nothing is written outside of the run folder and the data root, and nothing listens beyond 127.0.0.1: real commands.

Python tells of what a process and its children do with files, sockets and programs; of sockets that libraries open by
themselves the kernel does, which is asked while a command runs; and what is left in the home folder and in the folder
for temporary files, which are empty at first, nobody can hide.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forked
import pytest

AUDIT = Path(__file__).parent / "audit"
QUICK = ["data.limit=64", "model.hidden=[16]", "trainer.max_epochs=1", "accelerator=cpu"]

ASIDE = {  # what libraries write beside what is asked for: where (below home or the folder for temporary files) and why
    r"home(/\.cache)?(/matplotlib(/fontlist-.*)?)?": "matplotlib looks for fonts once",
    r"home/\.config(/matplotlib)?": "where a user of matplotlib may have settings",
    r"tmp/pymp-\w+(/listener-\w+)?": "processes talk to the server that forks them: a folder of mode 0700",
    r"tmp/\w{8}": "tempfile tries whether it can write there, and takes it away",
    r"tmp/tmp\w+(/.*)?": "temporary folders, of mode 0700",
    r"tmp/vae_lightning_\w+(/.*)?": "what the explorer's page shows, taken away at its end",
}
STAYS = [pattern for pattern in ASIDE if pattern.startswith("home")]
PROGRAMS = {  # beside Python itself
    "ldconfig": "Python's ctypes asks it where libraries are",
    "fc-list": "matplotlib asks it for fonts",
}


@dataclass(frozen=True)
class Place:
    """Where commands run, with nothing in it that was there before."""

    root: Path

    def prepare(self) -> Place:
        for name in ("home", "tmp", "work", "data"):
            (self.root / name).mkdir()
        for path in AUDIT.glob("*.py"):
            shutil.copyfile(path, self.work / path.name)
        return self

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def work(self) -> Path:
        return self.root / "work"

    def events(self) -> list[list[Any]]:
        """What was written down, without the number of the process."""
        return [json.loads(line)[1:] for line in self.log.read_text().splitlines()]

    def forked(self, *words: str) -> str:
        """Run `python -m <words>`, forked; what it said."""
        line = [sys.executable, "-m", "audited", *map(str, (self.log, self.root / "home", self.root / "tmp")), *words]
        env = forked.environment(VAE_LIGHTNING_DATA=str(self.root / "data"))
        done = forked.run(line, self.work, env, 200)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def judge(self, *outputs: str) -> None:
        """All that was written lies in `outputs`, the data root or aside, and nothing reached beyond this machine."""
        events = self.events()
        assert any(event == "open" for event, *_ in events)
        own = [self.root / "work" / output for output in outputs] + [self.root / "data"]
        wrong = []
        for event, *said in events:
            if event.startswith("socket."):
                fine = self._socket(event, said)
            elif event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system"):
                fine = Path(str(said[0])).name in PROGRAMS or Path(str(said[0])) == Path(sys.executable)
            else:
                path = Path(os.path.normpath(said[0]))
                fine = any(path.is_relative_to(each) for each in own) or self._aside(path)
                fine |= event == "os.mkdir" and path == self.work  # it is there
            if not fine:
                wrong.append([event, *said])
        assert not wrong
        left = [p for name in ("home", "tmp") for p in (self.root / name).rglob("*")]
        names = [str(p.relative_to(self.root)) for p in left]
        assert [name for name in names if not any(re.fullmatch(stays, name) for stays in STAYS)] == []

    def _aside(self, path: Path) -> bool:
        if path == Path(os.devnull) or "__pycache__" in path.parts:
            return True
        if not path.is_relative_to(self.root):
            return False
        return any(re.fullmatch(pattern, str(path.relative_to(self.root))) for pattern in ASIDE)

    def _socket(self, event: str, said: list[Any]) -> bool:
        if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
            return said[0] in (None, "127.0.0.1", "localhost", "::1", socket.gethostname())
        family, address = said
        if family == "AF_UNIX":  # abstract, or in a folder that is nobody else's
            return address.startswith(("\0", str(self.root / "tmp" / "pymp-")))
        return family in ("AF_INET", "AF_INET6") and address[0] in ("127.0.0.1", "::1", "localhost")


LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def processes(root: int) -> list[int]:
    """A process and all that have come from it."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            children.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def own_sockets(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(entry.path))
    return {name[8:-1] for name in found if name.startswith("socket:[")}


def addresses(root: int) -> set[str]:
    """What the sockets of a process and its children are bound to, as the kernel knows it."""
    mine = set().union(*map(own_sockets, processes(root)))
    found = set()
    for name in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in mine:
                raw = bytes.fromhex(fields[1].partition(":")[0])
                words = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
                found.add(socket.inet_ntop(socket.AF_INET6 if len(raw) > 4 else socket.AF_INET, words))
    return found


@contextlib.contextmanager
def native() -> Iterator[set[str]]:
    """The addresses that this process and its children have had sockets at, meanwhile."""
    found: set[str] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.05):
            found.update(addresses(os.getpid()))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place where a run, a sweep and a run of two processes have been, under audit."""
    if sys.platform != "linux":
        pytest.skip("what the kernel knows is read from /proc")
    found = Place(tmp_path_factory.mktemp("audit")).prepare()
    found.forked("vae_lightning", "data=digits", *QUICK, "callback=[early_stopping,ema]", "hydra.run.dir=run")
    return found


def test_a_run_writes_its_folder(place: Place) -> None:
    place.judge("run")
    assert (place.work / "run" / "figures" / "curves.png").exists()


@pytest.mark.parametrize(
    ("words", "outputs"),
    [
        (
            ["vae_lightning", "-m", "data=digits", *QUICK, "pictures=false", "seed=1,2", "hydra.sweep.dir=sweep"],
            ["sweep"],
        ),
        (["vae_lightning.evaluate", "run", "samples=4", "images=16", "metric=[likelihood,reconstruction]"], ["run"]),
        (["vae_lightning.generate", "run", "n=4"], ["run"]),
        (["vae_lightning.report", "run", "out=page"], ["page"]),
        (["vae_lightning.export", "run", "out=others"], ["others"]),
    ],
    ids=lambda given: given[0] if len(given) > 1 else "",
)
def test_a_command_writes_where_it_says(words: list[str], outputs: list[str], place: Place) -> None:
    place.log.unlink()
    place.forked(*words)
    place.judge(*outputs)


def test_processes_of_a_run_are_heard_on_this_machine_alone(place: Place) -> None:
    place.log.unlink()
    with native() as sockets:
        place.forked("vae_lightning", "data=digits", *QUICK[:-1], "accelerator=ddp_cpu", "hydra.run.dir=ranks")
    assert sockets
    assert sockets <= LOOPBACK, sockets
    place.judge("ranks")
    assert any(event == "socket.bind" and said[0] == "AF_INET" for event, *said in place.events())


def test_a_download_writes_the_data_root(place: Place, mnist: str) -> None:
    place.log.unlink()
    handler = functools.partial(Quiet, directory=f"{mnist}/MNIST/raw")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        port = server.server_address[1]
        mirror = f"data.source.mirror=http://127.0.0.1:{port}/"
        place.forked("vae_lightning", "data=mnist", *QUICK, "pictures=false", mirror, "hydra.run.dir=downloaded")
        server.shutdown()
    place.judge("downloaded")
    connected = {
        tuple(said[1]) for event, *said in place.events() if event == "socket.connect" and said[0] == "AF_INET"
    }
    assert connected == {("127.0.0.1", port)}
    assert len(list((place.root / "data" / "MNIST" / "raw").glob("*.gz"))) == 4


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing is told."""


@pytest.mark.parametrize(
    "harm",
    [
        "open('{outside}/x', 'w')",
        "import os; os.mkdir('{outside}/x')",
        "import os; os.symlink('a', '{outside}/x')",
        "import os; os.remove('{outside}/there')",
        "import os; os.rename('{outside}/there', 'run/x')",
        "import pathlib; pathlib.Path('{outside}/there').chmod(0o777)",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
        "import socket; socket.create_server(('0.0.0.0', 0))",
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))",
        "import socket; socket.getaddrinfo('example.org', 80)",
        "import os; os.fork() or open('{outside}/x', 'w'); os.wait()",
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'open(\"{outside}/x\", \"w\")'])",
    ],
)
def test_an_audit_would_notice(harm: str, tmp_path: Path) -> None:
    found = Place(tmp_path).prepare()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "there").touch()
    (found.work / "run").mkdir()
    code = f"import contextlib\nopen('run/a', 'w')\nwith contextlib.suppress(OSError):\n    {harm}"
    env = {**os.environ, "PYTHONPATH": str(AUDIT), "AUDIT_LOG": str(found.log)}
    line = [sys.executable, "-c", code.format(outside=outside)]
    subprocess.run(line, cwd=found.work, env=env, check=False, capture_output=True)
    with pytest.raises(AssertionError):
        found.judge("run")


def test_the_kernel_is_asked_for_sockets() -> None:
    with native() as sockets, socket.create_server(("0.0.0.0", 0)), socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))
        end = time.monotonic() + 20
        while time.monotonic() < end and not {"0.0.0.0", "127.0.0.2"} <= sockets:
            time.sleep(0.01)
    assert {"0.0.0.0", "127.0.0.2"} <= sockets


# ---- from the first line that Python reads ------------------------------------------------------------------------
COMMANDS: list[tuple[list[str], list[str]]] = [
    (["vae_lightning", "data=digits", *QUICK, "callback=[early_stopping,ema]", "hydra.run.dir=run"], ["run"]),
    (["vae_lightning", "-m", "data=digits", *QUICK, "seed=1,2", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=s"], ["s"]),
    (["vae_lightning.evaluate", "run", "samples=4", "images=16"], ["run"]),
    (["vae_lightning.generate", "run", "what=traverse"], ["run"]),
    (["vae_lightning.report", "run"], ["run"]),
    (["vae_lightning.export", "run"], ["run"]),
    (["vae_lightning", "ckpt=run", "trainer.max_epochs=2"], ["run"]),
    (["vae_lightning", "sweep.resume=s"], ["s"]),
    (["vae_lightning", "data=digits", *QUICK[:-1], "accelerator=ddp_cpu", "hydra.run.dir=ranks"], ["ranks"]),
]


def anew(place: Place, words: list[str], act: Callable[[subprocess.Popen[str]], None] = lambda _: None) -> str:
    """Run a command with an interpreter of its own, audited from its start; what it said."""
    home = {"HOME": str(place.root / "home"), "TMPDIR": str(place.root / "tmp"), "AUDIT_LOG": str(place.log)}
    path = os.pathsep.join([str(AUDIT), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**forked.environment(VAE_LIGHTNING_DATA=str(place.root / "data")), **home, "PYTHONPATH": path}
    env.pop("TORCHINDUCTOR_CACHE_DIR", None)  # torch says it to all that come after, if it is not said
    with native() as sockets:
        line = [sys.executable, "-m", *words]
        with subprocess.Popen(
            line, cwd=place.work, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            act(process)
            said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert sockets <= LOOPBACK, sockets
    return said


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name: that of a socket in it may have a hundred characters."""
    with tempfile.TemporaryDirectory(prefix="vae", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.long
def test_whole_commands_write_where_they_say(short: Path) -> None:
    found = Place(short).prepare()
    for words, outputs in COMMANDS:
        found.log.unlink(missing_ok=True)
        anew(found, words)
        found.judge(*outputs)


@pytest.mark.long
def test_the_explorer_is_of_this_machine_alone(short: Path) -> None:
    pytest.importorskip("gradio")
    found = Place(short).prepare()
    anew(found, COMMANDS[0][0])
    found.log.unlink()

    def stop(process: subprocess.Popen[str]) -> None:
        end = time.monotonic() + 120
        while time.monotonic() < end and not any(
            e == "socket.bind" for e, *_ in found.events()[:] if found.log.exists()
        ):
            time.sleep(0.2)
        time.sleep(5)  # whatever else it does when it has begun
        process.send_signal(signal.SIGINT)

    anew(found, ["vae_lightning.explore", "run", "port=null"], lambda process: (found.log.touch(), stop(process))[1])
    found.judge()


@pytest.mark.long
@pytest.mark.skipif(shutil.which("unshare") is None or os.geteuid() != 0, reason="a name of its own needs root")
def test_a_machine_with_a_name_outside_is_not_heard_there(short: Path) -> None:
    """gloo listens at the address that the name of the machine has."""
    found = Place(short).prepare()
    outer = [
        line.split()[3].partition("/")[0]
        for line in subprocess.run(["ip", "-o", "-4", "addr"], capture_output=True, text=True).stdout.splitlines()
        if " lo " not in line
    ]
    if not outer:
        pytest.skip("this machine has no other address")
    (short / "hosts").write_text(f"127.0.0.1 localhost\n{outer[0]} outside\n")
    command = " ".join([sys.executable, "-m", *COMMANDS[-1][0]]).replace("[", "'[").replace("]", "]'")
    script = f"mount --bind {short}/hosts /etc/hosts && hostname outside && exec {command}"
    with native() as sockets:
        done = subprocess.run(
            ["unshare", "-m", "-u", "sh", "-c", script], cwd=found.work, capture_output=True, text=True
        )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    assert sockets <= LOOPBACK, sockets
