"""Anything on the command line, and anything in a file: an answer in words, or what was asked for."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import forked
import pytest
from conftest import command, composed
from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st
from mistakes import BAD, arguments
from omegaconf import DictConfig, OmegaConf, open_dict

from vae_lightning import command_line
from vae_lightning.check import problems
from vae_lightning.command_line import check, options
from vae_lightning.compose import compose
from vae_lightning.errors import ConfigError
from vae_lightning.override import parsed, quoted
from vae_lightning.paths import CONF

FUZZ = Path(__file__).with_name("fuzz.py")
SECONDS = float(os.environ.get("VAE_LIGHTNING_FUZZ_SECONDS", "120"))  # that all long tests of this file take together
READERS = ("idx", "cifar10", "dsprites", "npy", "csv", "image", "checkpoint", "bits", "load")
QUICK = settings(
    max_examples=150, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
LONG = settings(QUICK, max_examples=500, derandomize=False)


def keys(config: Any, path: str = "") -> list[str]:
    """Every key that can be said, also those of groups of keys."""
    found = []
    for key in map(str, config):
        if key != "_target_":
            name = f"{path}.{key}" if path else key
            node = config._get_node(key)
            found += [name, *(keys(node, name) if isinstance(node, DictConfig) else [])]
    return found


GROUPS = [name for name in options([CONF]) if name in composed()[0]]
WORDS = [line for row, _ in BAD for line in arguments(row)]
KEYS = [key for key in keys(composed()[0]) if key not in GROUPS]
PIECES = [*"{}[](),:='\"\\$~+@/. \t\n09-aé", "loss", "beta", "hydra", "null", "true", "inf", "nan", "1e999", "${"]
PIECES.extend(["choice(", "range(", "range(1,3,0)", "range(0,1000000000)", "shuffle(", "glob(*)", "sort(", "tag(log,"])
BITS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
CHANGED = st.tuples(st.sampled_from(WORDS), st.integers(0, 40), st.sampled_from(PIECES), st.integers(0, 3))
TEXTS = st.one_of(
    st.text(max_size=30),
    BITS,
    st.builds("{}={}".format, st.sampled_from([*KEYS, *GROUPS]), st.text(max_size=20)),
    st.builds("{}={}".format, st.sampled_from(KEYS), BITS),
    CHANGED.map(lambda c: c[0][: c[1]] + c[2] + c[0][c[1] + c[3] :]),
).filter(lambda text: not text.startswith("-"))  # that is a flag
HUGE = st.sampled_from([2**31, 2**63, 10**30, 10**400, 1e308])
NUMBERS = st.one_of(st.integers(), st.integers(-3, 3), st.floats(), HUGE)
PLAIN = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=20), st.text(min_size=500, max_size=600))
NAMES = st.sampled_from(["a", "lr", "beta", "name"])
VALUES = st.recursive(PLAIN, lambda v: st.lists(v, max_size=3) | st.dictionaries(NAMES, v, max_size=2), max_leaves=6)


def said(value: Any) -> str:
    """A value as the command line has it."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{said(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(said, value)) + "]"
    if isinstance(value, str):
        return quoted(value)
    return {None: "null", True: "true", False: "false"}.get(value, str(value)) if not _is_number(value) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@pytest.fixture(autouse=True, scope="module")
def _remembered() -> Iterator[None]:
    """What `check` composes is mostly the same: it is remembered, and copied."""

    @cache
    def whole(overrides: tuple[str, ...]) -> tuple[DictConfig, dict[str, Any]]:
        return compose(overrides, hydra=True)

    def again(
        overrides: Iterable[str] = (), *_: Any, hydra: bool = False, **__: Any
    ) -> tuple[DictConfig, dict[str, Any]]:
        config, choices = whole(tuple(overrides))
        config = config.copy()
        if not hydra:
            with open_dict(config):
                del config["hydra"]
        return config, dict(choices)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command_line, "compose", again)
        yield


def any_text(text: str, multirun: bool) -> None:
    """Whatever the text, there is an answer; if it is a refusal, it names the text or its key."""
    try:
        key = parsed(text).key_or_group
    except ConfigError:
        key = text
    lines = check([text], multirun=multirun)
    named = [line for line in lines if key.replace("\n", "\\n") in line]
    assert named or not lines, (text, lines)
    assert all(line and "\n" not in line for line in lines)
    if not lines and not multirun:
        compose([text])


def any_value(key: str, value: Any) -> None:
    """Whatever the value of a key, it can be composed, or the refusal names the key."""
    text = f"{key}={said(value)}"
    lines = check([text])
    if lines:
        assert any(key in line for line in lines), (text, lines)
    else:
        config, choices = compose([text])
        assert problems(config, choices) == {}
        found = OmegaConf.select(config, key)
        assert same(OmegaConf.to_container(found) if OmegaConf.is_config(found) else found, value), text


def same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return True
    if isinstance(a, dict) and isinstance(b, dict):
        return all(key in a and same(a[key], b[key]) for key in b)
    return bool(a == b)


@QUICK
@example("seed=range(0,1000000000)", True)
@example("seed=shuffle(range(0,1000000000))", True)
@example("seed=range(0,1,0)", True)
@example("model=glob(*)", True)
@example("seed=range(0,9),3", True)
@given(TEXTS, st.booleans())
def test_any_text_is_answered(text: str, multirun: bool) -> None:
    any_text(text, multirun)


@QUICK
@given(st.sampled_from(KEYS), VALUES)
def test_any_value_of_any_key_can_be_composed_or_is_refused_by_name(key: str, value: Any) -> None:
    any_value(key, value)


def for_seconds(duration: float, test: Callable[..., None], *strategies: Any) -> int:
    """Try `test` with ever new examples; how many there were."""
    end, count, round = time.monotonic() + duration, 0, 0

    def counted(values: tuple[Any, ...]) -> None:
        nonlocal count
        if time.monotonic() < end:  # all that come later pass at once
            count += 1
            test(*values)

    while time.monotonic() < end:
        round += 1
        seed(round)(LONG(given(st.tuples(*strategies))(counted)))()
    return count


@pytest.mark.long
@pytest.mark.parametrize(
    ("test", "strategies"), [(any_text, (TEXTS, st.booleans())), (any_value, (st.sampled_from(KEYS), VALUES))]
)
def test_any_command_line_for_long(test: Callable[..., None], strategies: tuple[Any, ...]) -> None:
    seconds = SECONDS / (len(READERS) + 2)
    count = for_seconds(seconds, test, *strategies)
    print(f"{test.__name__}: {count} examples, {count / seconds:.0f} a second")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of a very small run."""
    cwd = tmp_path_factory.mktemp("small")
    how = ["data=digits", "data.source.size=8", "data.limit=40", "model.hidden=[8]", "model.latent_dim=2"]
    done = command(*how, "trainer.max_epochs=1", "pictures=false", "logger=none", "hydra.run.dir=run", cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return cwd / "run" / "checkpoints" / "last.ckpt"


def fuzzed(reader: str, seconds: float, number: int, checkpoint: Path) -> dict[str, Any]:
    """What came of it: see `fuzz.py`. Its process may take no more than a gigabyte, and no minute for an example."""
    words = [sys.executable, str(FUZZ), reader, str(seconds), str(number), str(checkpoint)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=seconds + 180)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_small_files_that_declare_huge_sizes_are_refused_in_little_memory(checkpoint: Path) -> None:
    words = [sys.executable, "-m", "fuzz", "bombs", str(checkpoint)]
    done = forked.run(words, FUZZ.parent, forked.environment(), 120)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert {name for name, _ in said} == {*READERS} - {"csv", "bits", "load"}
    assert [wrong for _, wrong in said if wrong is not None] == []


@pytest.mark.long
@pytest.mark.parametrize("reader", READERS)
def test_any_bytes_are_read_or_refused_in_words(reader: str, checkpoint: Path) -> None:
    seconds = SECONDS / (len(READERS) + 2)
    found = fuzzed(reader, seconds, int(SECONDS), checkpoint)
    print(f"{reader}: {found['examples']} examples, {found['examples'] / seconds:.0f} a second")
    assert found["examples"] > 0
    assert found["findings"] == []
