"""A search proposes what was asked for, gives each trial away once, and loses none, whoever dies."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import command
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus

from vae_lightning import status
from vae_lightning.errors import ConfigError, UserError

optuna = pytest.importorskip("optuna", reason='pip install -e ".[search]" brings optuna')

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402
from optuna.trial import TrialState  # noqa: E402

from vae_lightning.callback.pruning import Pruning, pruning  # noqa: E402
from vae_lightning.search import method, owner, report  # noqa: E402
from vae_lightning.search.plan import Plan, counts, lost  # noqa: E402
from vae_lightning.search.space import space, spelled  # noqa: E402
from vae_lightning.search.store import Store  # noqa: E402
from vae_lightning.search.study import Search  # noqa: E402
from vae_lightning.search.sweeper import OptunaSweeper  # noqa: E402
from vae_lightning.search.trial import VARIABLE, Judge, Name, Pruned  # noqa: E402

MEDIAN = {"name": "median", "startup_trials": 1, "warmup_epochs": 1, "keep": 0.25, "max_epochs": 9}
NONE = {**MEDIAN, "name": "none"}
parse = OverridesParser.create().parse_overrides

# Spaces


@pytest.mark.parametrize(
    ("said", "distribution"),
    [
        ("k=interval(0.5,4)", FloatDistribution(0.5, 4.0)),
        ("k=interval(1,4)", FloatDistribution(1.0, 4.0)),
        ("k=int(interval(2,64))", IntDistribution(2, 64)),
        ("k=tag(log, interval(1e-4, 1e-1))", FloatDistribution(1e-4, 1e-1, log=True)),
        ("k=tag(log, int(interval(2, 64)))", IntDistribution(2, 64, log=True)),
        ("k=range(1,10,2)", IntDistribution(1, 9, step=2)),
        ("k=range(1,10,3)", IntDistribution(1, 7, step=3)),
        ("k=range(9,1,-4)", IntDistribution(5, 9, step=4)),
        ("k=range(0.5,2,0.5)", FloatDistribution(0.5, 1.5, step=0.5)),
        ("k=choice(a,b)", CategoricalDistribution(("a", "b"))),
        ("k=1,null,true,[8,16]", CategoricalDistribution(("1", "null", "True", "[8,16]"))),
        ("k='a,b',c", CategoricalDistribution(("'a,b'", "c"))),
    ],
)
def test_a_sweep_is_a_distribution(said: str, distribution: Any) -> None:
    assert space(parse([said, "other=3"])) == {"k": distribution}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("k=shuffle(1,2)", "leave shuffle out"),
        ("k=tag(log, choice(1,2))", "the only tag is log"),
        ("k=tag(fast, interval(1,2))", "the only tag is log"),
        ("k=interval(4,1)", "to a greater one"),
        ("k=tag(log, interval(0,1))", "begins above 0"),
        ("k=range(3,3)", "no value"),
        ("k=3", "nothing is searched"),
    ],
)
def test_a_sweep_that_means_nothing_to_a_search_is_refused(said: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        space(parse([said]))


@pytest.mark.parametrize(
    "values", ["[8,16],[8]", "'a,b',\"it's\"", "null,true,1.5", "{a:1,b:[x]},{}", r"a\,b,c", "1e-5,2"]
)
def test_an_option_arrives_in_the_job_as_it_was_said(values: str) -> None:
    overrides = parse([f"k={values}", "other='x,y'"])
    meant = [OverridesParser.create().parse_override(f"k={v}").value() for v in overrides[0].sweep_string_iterator()]
    known = space(overrides)
    arrived = [parse(spelled(overrides, {"k": choice}, known)) for choice in known["k"].choices]
    assert [job[0].value() for job in arrived] == meant
    assert {job[1].value() for job in arrived} == {"x,y"}
    assert len(meant) == 2 + (values.count("null"))


def test_a_number_arrives_exactly() -> None:
    overrides = parse(["k=tag(log,interval(1e-9,1))", "r=range(0.1,1,0.1)", "+n=int(interval(1,9))"])
    job = spelled(overrides, {"k": 1.2345678901234567e-05, "r": 0.1 + 2 * 0.1, "n": 3}, space(overrides))
    assert [o.value() for o in parse(job)] == [1.2345678901234567e-05, 0.3, 3]
    assert job[2] == "+n=3"


# Who gets which trial


@pytest.fixture
def search(tmp_path: Path) -> Callable[..., Search]:
    def make(*sweeps: str, folder: str = "sweep", **how: Any) -> Search:
        overrides = parse(list(sweeps or ["k=interval(0,1)"]))
        known = space(overrides)
        plan = {"objectives": ["test/elbo"], "n_trials": 6, "sampler": "random", "sampler_seed": 0, "startup_trials": 2}
        (tmp_path / folder).mkdir(exist_ok=True)
        store = Store(how.pop("store", str(tmp_path / "a.journal")))
        made = Plan(space=known, **{**plan, "pruner": NONE, **how})
        return Search(store, "search", made, tmp_path / folder, lambda params: spelled(overrides, params, known))

    return make


def run(search: Search, result: Callable[[int], Any] = float) -> list[str]:
    """Every trial that is left, with instant jobs; the first override of each."""
    jobs = []
    for number, overrides, _ in search.jobs():
        jobs.append(overrides[0])
        search.tell(number, result(number))
    search.close()
    return jobs


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "random"])
def test_a_sampler_repeats_itself_and_goes_on_where_it_was(
    search: Callable[..., Search], sampler: str, tmp_path: Path
) -> None:
    sweeps = ["k=interval(0,1)", "l=tag(log,interval(1,9))"]
    whole = run(search(*sweeps, sampler=sampler))
    again = [
        *run(search(*sweeps, sampler=sampler, n_trials=4, store=str(tmp_path / "b.journal"))),
        *run(search(*sweeps, sampler=sampler, n_trials=6, store=str(tmp_path / "b.journal"))),
    ]
    other = run(search(*sweeps, sampler=sampler, sampler_seed=1, store=str(tmp_path / "c.journal")))
    assert whole == again
    assert len(set(whole)) == 6
    assert not set(whole) & set(other)


def test_a_grid_has_every_combination_once_and_an_end(search: Callable[..., Search]) -> None:
    studied = search("k=1,2", "l=range(0,3)", "m=int(interval(1,2))", sampler="grid", n_trials=99)
    assert studied.left() == 12
    assert len(run(studied)) == 12
    combinations = [tuple(t.params.values()) for t in studied.study.trials]
    assert combinations == [(k, i, m) for k in ("1", "2") for i in (0, 1, 2) for m in (1, 2)]


def test_a_grid_refuses_an_interval(search: Callable[..., Search]) -> None:
    with pytest.raises(ConfigError, match=r"k: a grid has no intervals; .* k=0.0,1.0"):
        search("k=interval(0,1)", sampler="grid")


def test_cmaes_refuses_several_objectives(search: Callable[..., Search]) -> None:
    with pytest.raises(ConfigError, match="say tpe, random or grid"):
        search(sampler="cmaes", objectives=["test/rate", "test/elbo"])


def test_directions_follow_the_objectives(search: Callable[..., Search]) -> None:
    studied = search(objectives=["test/elbo", "test/rate"])
    run(studied, lambda number: [number, number])
    assert [d.name for d in studied.study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert len(studied.study.best_trials) == 6  # more elbo costs more rate


def test_how_a_job_ended_is_how_its_trial_ended(search: Callable[..., Search], tmp_path: Path) -> None:
    studied = search()
    ends = [
        ({"state": status.DONE, "result": 1.5}, None),
        ({"state": status.FAILED, "reason": "ValueError: no\nmore"}, math.nan),
        ({"state": status.PRUNED}, math.nan),
        ({}, math.inf),
        ({}, None),
        ({"state": status.RUNNING}, math.nan),
    ]
    for (number, _, _), (said, returned) in zip(studied.jobs(), ends, strict=True):
        (tmp_path / "sweep" / str(number)).mkdir()
        if said:
            status.update(tmp_path / "sweep" / str(number), **said)
        studied.tell(number, returned)
    trials = studied.study.trials
    assert [t.state.name for t in trials] == ["COMPLETE", "FAIL", "PRUNED", "FAIL", "FAIL", "FAIL"]
    assert trials[0].values == [1.5]
    why = [t.user_attrs.get("reason") for t in trials]
    assert why == [
        None,
        "ValueError: no",
        None,
        "it returned inf",
        "it returned None",
        "it was ended from outside, without a word",
    ]
    assert all(map(counts, trials))
    assert studied.left() == 0
    assert {t.user_attrs["owner"]["host"] for t in trials} == {socket.gethostname()}
    assert [t.user_attrs["folder"] for t in trials] == [str(tmp_path / "sweep" / str(i)) for i in range(6)]
    assert all(t.user_attrs["overrides"] == [f"k={t.params['k']}"] for t in trials)


def died(search: Search, number: int) -> None:
    """The process that works on a trial is no more."""
    trial = search.storage.get_trial_id_from_study_id_trial_number(0, number)
    search.storage.set_trial_user_attr(trial, "owner", {**owner.me(), "since": "0"})


def test_a_sweep_goes_on_with_its_own_trial(search: Callable[..., Search], tmp_path: Path) -> None:
    first = search()
    jobs = first.jobs()
    before = [next(jobs) for _ in range(4)]
    for number in (0, 1, 2):
        died(first, number)
    (tmp_path / "sweep" / "1").mkdir()
    status.update(tmp_path / "sweep" / "1", state=status.DONE, result=0.25)
    (tmp_path / "sweep" / "2").mkdir()
    status.update(tmp_path / "sweep" / "2", state=status.RUNNING, **{**owner.me(), "since": "0"})
    second = search()
    assert second.left() == 5
    after = []
    for job in second.jobs():
        after.append(job)
        second.tell(job[0], 1.0)
    assert [(number, begun) for number, _, begun in after] == [(0, True), (2, True), (4, False), (5, False)]
    assert [after[0][1], after[1][1]] == [before[0][1], before[2][1]]
    trials = second.study.trials
    assert trials[1].values == [0.25]  # it had ended, and nobody had been told
    assert trials[3].state == TrialState.RUNNING  # its process lives


def test_what_another_sweep_of_this_host_has_left_behind_is_repeated(search: Callable[..., Search]) -> None:
    sweep = "k=range(0,5)"
    first = search(sweep, folder="one", sampler="grid")
    jobs = first.jobs()
    for _ in range(3):
        number, *_ = next(jobs)
        if number != 1:
            first.tell(number, 1.0)
    died(first, 1)
    second = search(sweep, folder="two", sampler="grid")
    assert run(second) == ["k=1", "k=3", "k=4"]
    trials = second.study.trials
    assert [t.number for t in trials if lost(t)] == [1]
    assert sorted(t.params["k"] for t in trials if counts(t)) == [0, 1, 2, 3, 4]
    assert trials[3].user_attrs["repeats"] == 1


def test_a_trial_of_another_host_is_left_alone(search: Callable[..., Search], monkeypatch: pytest.MonkeyPatch) -> None:
    first = search()
    next(first.jobs())
    first.storage.set_trial_user_attr(0, "owner", {**owner.me(), "host": "elsewhere"})
    assert len(run(search())) == 5
    monkeypatch.setenv("VAE_LIGHTNING_RESUME", "1")  # unless its sweep is resumed, on a new host
    assert len(run(search())) == 1


def test_a_study_is_about_one_objective_and_one_space(search: Callable[..., Search]) -> None:
    run(search("k=1,2"))
    with pytest.raises(ConfigError, match="this study is about objective=test/elbo, not test/rate; say another name"):
        search("k=1,2", objectives=["test/rate"])
    with pytest.raises(ConfigError, match="has searched another space"):
        run(search("k=1,2,3", n_trials=9))


def test_a_sweep_of_another_host_that_is_silent_is_lost(
    search: Callable[..., Search], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a database knows when it has last heard of a trial."""
    monkeypatch.setattr("vae_lightning.search.store.SILENCE", 1)
    monkeypatch.setattr("vae_lightning.search.store.BEAT", 1)
    monkeypatch.setattr("vae_lightning.search.heart.BEAT", 0.2)
    address = f"sqlite:///{tmp_path}/a.db"
    first = search(folder="one", store=address)
    jobs = first.jobs()
    gone, lives = next(jobs)[0], next(jobs)[0]
    for number in (gone, lives):
        first.storage.set_trial_user_attr(first._id(number), "owner", {**owner.me(), "host": "elsewhere"})
    first.beating.stop(first._id(gone))
    time.sleep(2.2)
    second = search(folder="two", store=address)
    assert len(run(second)) == 5
    first.close()
    trials = second.study.trials
    assert [t.number for t in trials if lost(t)] == [gone]
    assert [t.number for t in trials if t.state == TrialState.RUNNING] == [lives]
    assert trials[2].params == trials[gone].params


def test_a_launcher_that_gives_up_ends_no_search(search: Callable[..., Search], tmp_path: Path) -> None:
    studied = search(n_trials=3)
    sweeper = OptunaSweeper(n_jobs=2, pruner="none")

    def launch(jobs: list[list[str]], first: int) -> list[JobReturn]:
        for number in range(first, first + len(jobs)):
            if number < 2:
                (tmp_path / "sweep" / str(number)).mkdir()
                status.update(tmp_path / "sweep" / str(number), state=("done", "running")[number], result=1.0)
        raise RuntimeError("a job was killed")

    sweeper.starter = SimpleNamespace(launch=launch)

    def drain() -> None:
        for number, job in sweeper._ended(studied, studied.store):
            studied.tell(number, job.return_value if job.status == JobStatus.COMPLETED else None)

    with pytest.raises(RuntimeError, match="a job was killed"):  # the second batch: no job of it has begun
        drain()
    assert [t.state.name for t in studied.study.trials] == ["COMPLETE", "FAIL", "RUNNING"]


# Stores


@pytest.mark.parametrize("address", ["study.db", "mysql://a/b", "sqlite://", "redis://a"])
def test_a_store_is_a_file_or_a_server(address: str) -> None:
    with pytest.raises(ConfigError, match=r"say a file that ends in .log or .journal, sqlite:///<file>"):
        Store(address)


def test_a_password_stays_out_of_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg", reason='pip install -e ".[postgresql]" brings psycopg')
    monkeypatch.delenv("PGPASSWORD", raising=False)
    store = Store("postgresql://me:secret@host:5433/study")
    assert store.address == "postgresql+psycopg://me@host:5433/study"
    assert os.environ["PGPASSWORD"] == "secret"
    monkeypatch.setenv("PGPASSWORD", "")


def test_a_server_that_is_away_is_told_in_words() -> None:
    pytest.importorskip("psycopg", reason='pip install -e ".[postgresql]" brings psycopg')
    with (
        pytest.raises(UserError, match=r"hydra.sweeper.storage=.*: cannot be reached: "),
        Store("postgresql://me@127.0.0.1:1/study").alone(),
    ):
        pass


# Pruning


def trainer(rank: int = 0, epoch: int = 0, value: float = 0.0, told: bool = False) -> Any:
    return SimpleNamespace(
        sanity_checking=False,
        is_global_zero=rank == 0,
        callback_metrics={"val/elbo": value, "val/loss": -value},
        current_epoch=epoch,
        max_epochs=9,
        strategy=SimpleNamespace(broadcast=lambda asked: told if rank else asked),
    )


def test_a_trial_reports_each_epoch_once_and_ends_when_it_falls_behind(
    search: Callable[..., Search], tmp_path: Path
) -> None:
    studied = search(pruner=MEDIAN)
    jobs = studied.jobs()
    numbers = [next(jobs)[0] for _ in range(2)]
    names = [Name(studied.store.address, "search", number, MEDIAN) for number in numbers]
    good, bad = (Pruning(name, "test/elbo") for name in names)
    for epoch in range(3):
        good.on_validation_end(trainer(epoch=epoch, value=-10.0 + epoch), None)
    Pruning(names[0], "test/elbo").on_validation_end(trainer(epoch=2, value=99.0), None)  # resumed: known already
    studied.tell(0, -8.0)
    bad.on_validation_end(trainer(epoch=0, value=-9.9), None)  # better than the other was then
    with pytest.raises(Pruned, match=r"val/elbo -20.00 after epoch 2 of 9"):
        bad.on_validation_end(trainer(epoch=1, value=-20.0), None)
    trials = studied.study.trials
    assert trials[0].intermediate_values == {1: -10.0, 2: -9.0, 3: -8.0}
    assert trials[1].intermediate_values == {1: -9.9, 2: -20.0}


def test_the_other_processes_of_a_trial_do_as_the_first() -> None:
    nowhere = Name("/nowhere/a.journal", "search", 0, MEDIAN)
    Pruning(nowhere, "test/elbo").on_validation_end(trainer(rank=1), None)
    with pytest.raises(Pruned):
        Pruning(nowhere, "test/elbo").on_validation_end(trainer(rank=1, told=True), None)


def test_a_run_is_a_trial_if_it_was_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pruning("test/elbo") == []
    monkeypatch.setenv(VARIABLE, str(Name("a.journal", "search", 0, MEDIAN)))
    (callback,) = pruning("test/elbo")
    assert callback.value == "val/elbo"


def test_a_server_that_goes_away_ends_no_training(
    search: Callable[..., Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    studied = search(pruner=MEDIAN)
    next(studied.jobs())
    judge = Judge(Name(studied.store.address, "search", 0, MEDIAN))

    def away(*_: Any) -> None:
        raise optuna.exceptions.StorageInternalError

    monkeypatch.setattr(judge.storage, "get_trial", away)
    assert not judge.unworthy(1, 0.0)


@pytest.mark.parametrize(
    ("name", "pruned"), [("none", None), ("median", 3), ("percentile", 3), ("hyperband", 3), ("halving", 3)]
)
def test_a_pruner_waits_for_the_warm_up(name: str, pruned: int | None) -> None:
    made = method.pruner(name, startup_trials=4, warmup_epochs=3, max_epochs=27, keep=0.25)
    study = optuna.create_study(direction="maximize", pruner=made)
    for value in range(30, 0, -1):
        trial = study.ask()
        for step in range(1, 28):
            trial.report(value, step)
            if trial.should_prune():
                break
        whole = step == 27
        study.tell(trial, value if whole else None, TrialState.COMPLETE if whole else TrialState.PRUNED)
    steps = {max(t.intermediate_values) for t in study.trials if t.state == TrialState.PRUNED}
    assert (min(steps) if steps else None) == pruned
    assert study.trials[0].state == TrialState.COMPLETE


# Whole programs


def test_what_every_start_imports_is_light() -> None:
    heavy = "{'optuna', 'torch', 'lightning', 'matplotlib'}"
    code = f"import sys, hydra_plugins.vae_lightning_plugins; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def start(*overrides: str, **environment: str) -> subprocess.Popen[str]:
    """`searched.py`: real sweeps in processes of their own, whose jobs train nothing."""
    program = [sys.executable, str(Path(__file__).with_name("searched.py")), *overrides]
    pipe = subprocess.PIPE
    return subprocess.Popen(program, env={**os.environ, **environment}, stdout=pipe, stderr=pipe, text=True)


def told(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own on a free port of this machine. It refuses to be root: `postgres` runs it."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    found = str(programs[-1]) if programs else shutil.which("pg_ctl")
    if found is None:
        pytest.skip("no PostgreSQL here; Debian's package is called postgresql")
    pytest.importorskip("psycopg", reason='pip install -e ".[postgresql]" brings psycopg')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = os.geteuid() == 0
    who: dict[str, Any] = {"user": "postgres", "extra_groups": []} if root else {}
    folder = Path(tempfile.mkdtemp(prefix="vae_lightning_"))  # where `postgres` may go
    if root:
        shutil.chown(folder, "postgres")

    def call(program: str, *arguments: str) -> None:
        ended = subprocess.run(
            [str(Path(found).with_name(program)), *arguments], **who, cwd=folder, capture_output=True
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr

    data = str(folder / "data")
    quick = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    call("initdb", "-D", data, "-U", "me", "--auth=trust", "--no-sync")
    try:
        call("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", quick, "start")
        yield f"postgresql://me@127.0.0.1:{port}/postgres"
    finally:
        call("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture(params=["journal", "sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql"))
    return {"journal": str(tmp_path / "study.journal"), "sqlite": f"sqlite:///{tmp_path}/study.db"}[request.param]


def test_processes_share_a_study(address: str, tmp_path: Path) -> None:
    """One is killed in its third job. Two that start at once do the rest: no trial twice, none lost, none too many."""
    said = [f"hydra.sweeper.storage='{address}'", "hydra.sweeper.n_trials=14", "loss.beta=interval(0,4)"]
    folders = [tmp_path / name for name in "abc"]
    killed, *lives = [[*said, f"hydra.sweep.dir='{folder}'"] for folder in folders]
    first = start(*killed, DIES_AFTER="2")
    first.communicate(timeout=60)
    assert first.returncode == -signal.SIGKILL
    told(*[start(*said, "hydra.sweeper.n_jobs=2", SECONDS="0.05") for said in lives])

    studied = optuna.load_study(study_name="search", storage=Store(address).open())
    trials = studied.trials
    assert [t.number for t in trials if lost(t)] == [2]
    assert [t.number for t in trials if t.user_attrs.get("repeats") == 2 and t.params == trials[2].params] == [3]
    assert [t.state.name for t in trials if counts(t)] == ["COMPLETE"] * 14
    assert [t.number for t in trials] == list(range(15))
    assert len({t.params["loss.beta"] for t in trials}) == 14  # nobody drew what another had drawn
    assert all(t.value == pytest.approx(-((t.params["loss.beta"] - 2) ** 2)) for t in trials if counts(t))
    began = [path for folder in folders for path in folder.glob("*/began-*")]
    assert sorted(int(path.parent.name) for path in began) == list(range(15))
    assert all(len(list(folder.glob("*/began-*"))) > 1 for folder in folders[1:])
    found = [json.loads((folder / "search.json").read_text()) for folder in folders[1:]]
    best = max(t.value for t in trials if counts(t))
    assert {"complete": 14, "lost": 1} in [f["states"] for f in found]
    assert best in [f["best"][0]["values"][0] for f in found]


def test_a_killed_sweep_goes_on(tmp_path: Path) -> None:
    """By the same command, or by `sweep.resume`: the trial that it was at has the same number and folder."""
    said = ["hydra.sweeper.n_trials=4", "loss.beta=interval(0,4)", f"hydra.sweep.dir='{tmp_path}'"]
    for dies in ("1", "1"):
        killed = start(*said, DIES_AFTER=dies)
        killed.communicate(timeout=60)
        assert killed.returncode == -signal.SIGKILL
    told(start(f"sweep.resume={tmp_path}"))
    told(start(*said))  # nothing is left
    trials = optuna.load_study(study_name="search", storage=Store(None, tmp_path).open()).trials
    assert [t.state.name for t in trials] == ["COMPLETE"] * 4
    assert [len(list((tmp_path / str(n)).glob("began-*"))) for n in range(4)] == [1, 2, 2, 1]
    found = json.loads((tmp_path / "search.json").read_text())
    assert found["states"] == {"complete": 4}
    assert (
        found["best"][0]["params"]
        == optuna.load_study(study_name="search", storage=Store(None, tmp_path).open()).best_params
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A search over four learning rates: two that are well, one too low, one absurd."""
    folder = tmp_path_factory.mktemp("search")
    said = ["hydra/sweeper=optuna", "hydra.sweeper.sampler=grid", "optimizer.lr=1e-2,3e-3,1e-6,1e30"]
    said += ["hydra.sweeper.startup_trials=2", "hydra.sweeper.warmup_epochs=1", "objective=val/elbo"]
    said += [
        "data=digits",
        "data.limit=64",
        "model.hidden=[8]",
        "trainer.max_epochs=3",
        "logger=none",
        "pictures=false",
        "accelerator=cpu",
    ]
    return folder, command("-m", *said, f"hydra.sweep.dir='{folder}'", cwd=folder, timeout=120)


def test_a_search_trains_prunes_and_records_a_failure(trained: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, ended = trained
    states = [status.read(folder / str(n))["state"] for n in range(4)]
    assert states == ["done", "done", "pruned", "failed"], ended.stdout + ended.stderr
    assert ended.returncode == 1
    trials = optuna.load_study(study_name="search", storage=Store(None, folder).open()).trials
    assert [t.state.name for t in trials] == ["COMPLETE", "COMPLETE", "PRUNED", "FAIL"]
    assert [sorted(t.intermediate_values) for t in trials[:2]] == [[1, 2, 3]] * 2
    assert 1 <= len(trials[2].intermediate_values) < 3
    assert "the loss is" in trials[3].user_attrs["reason"]
    for n in range(2):
        results = json.loads((folder / str(n) / "results.json").read_text())
        assert trials[n].value == results["val"]["elbo"] == max(trials[n].intermediate_values.values())


def test_a_search_says_what_was_best(trained: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, ended = trained
    found = json.loads((folder / "search.json").read_text())
    assert found["states"] == {"complete": 2, "pruned": 1, "fail": 1}
    assert found["objective"] == ["val/elbo"]
    best = max((status.read(folder / str(n)) for n in range(2)), key=lambda said: said["result"])
    assert found["best"][0]["values"] == [best["result"]]
    assert found["best"][0]["overrides"] == best["overrides"]
    assert f"val/elbo {best['result']:.2f}  optimizer.lr=" in ended.stdout
    pictures = {path.stem for path in (folder / "search").iterdir()}
    assert pictures == {"history", "slice", "intermediate_values"}  # one parameter: nothing to compare it with


def test_a_search_for_two_things_ends_with_a_front(search: Callable[..., Search], tmp_path: Path) -> None:
    studied = search("k=interval(0,1)", "l=1,2", objectives=["test/distortion", "test/rate"])
    run(studied, lambda number: [100 - number, number if number < 4 else 9])
    report.tell(studied.study, studied.store.address, 6, tmp_path)
    found = json.loads((tmp_path / "search.json").read_text())
    assert [best["number"] for best in found["best"]] == [5, 3, 2, 1, 0]
    assert set(found["importances"]) == {"test/distortion", "test/rate"}
    per = [f"{name}_test_{what}" for name in ("history", "slice", "importances", "parallel", "contour")
           for what in ("distortion", "rate")]  # fmt: skip
    assert {path.stem for path in (tmp_path / "search").iterdir()} == {"pareto_front", *per}


def test_a_search_without_a_result_says_so(search: Callable[..., Search], tmp_path: Path) -> None:
    studied = search()
    run(studied, lambda number: math.nan)
    report.tell(studied.study, studied.store.address, 6, tmp_path)
    found = json.loads((tmp_path / "search.json").read_text())
    assert (found["best"], found["states"]) == ([], {"fail": 6})
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("loss.beta=2", "nothing is searched; say a space such as"),
        ("hydra.sweeper.storage=a.db loss.beta=1,2", "say a file that ends in .log or .journal"),
        ("++hydra.sweeper.params={loss.bta:'1,2'} loss.beta=1,2", "did you mean loss.beta?"),
    ],
)
def test_a_search_that_cannot_work_is_refused_in_words(said: str, words: str, tmp_path: Path) -> None:
    ended = start(*said.split(), f"hydra.sweep.dir='{tmp_path}'")
    _, errors = ended.communicate(timeout=60)
    assert ended.returncode == 2
    assert words in errors
    assert "Traceback" not in errors
    assert not list(tmp_path.iterdir())
