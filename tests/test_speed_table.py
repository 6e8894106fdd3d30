"""The speed table says what was measured, on what, and what was not."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark import harness, targets


@pytest.fixture(autouse=True)
def _kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "KEPT", tmp_path / "speed.json")
    monkeypatch.setattr(harness, "QUICK", False)
    monkeypatch.setattr(harness, "now", {})


def line(key: str) -> list[str]:
    """The cells of a row of the table that is kept."""
    (work,) = (claim.work for claim in targets.ROWS if claim.key == key)
    (found,) = (text for text in harness.table(harness.now | harness.kept()).splitlines() if f"| {work} |" in text)
    return [cell.strip() for cell in found.strip("|").split("|")][1:]


@pytest.mark.parametrize(
    ("key", "value", "verdict"),
    [
        ("mlp-32", 1.10, "met"),
        ("mlp-32", 1.11, "missed"),
        ("pythae", 2.0, "met"),
        ("pythae", 1.99, "missed"),
        ("nll-peak", 0.61, "met"),
        ("gpu-mlp", 9e5, "missed"),
    ],
)
def test_a_target_is_met_or_missed(key: str, value: float, verdict: str) -> None:
    assert harness.row(key, [value]) == (verdict == "met")
    assert line(key)[2] == verdict


def test_the_median_decides_and_the_quartiles_are_shown() -> None:
    assert harness.row("mlp-128", [1.5, 1.0, 1.02, 1.07, 1.01])
    assert line("mlp-128") == ["≤ 1.05 ×", "1.02 × (1.01–1.07)", "met"]
    assert not harness.row("mlp-128", [1.5, 1.0, 1.06, 1.07, 1.01])
    assert line("mlp-128") == ["≤ 1.05 ×", "1.06 × (1.01–1.07)", "missed"]


def test_what_is_not_measured_says_why_and_forgets_nothing() -> None:
    assert line("pythae") == ["≥ 2.00 ×", "", "not measured"]
    assert line("gpu-nll") == ["≤ 15.00 s", "", "not measured: no GPU"]
    harness.missing("pythae", "no pythae")
    assert line("pythae")[2] == "not measured: no pythae"
    harness.row("pythae", [3.0])
    harness.missing("pythae", "no pythae")
    assert line("pythae") == ["≥ 2.00 ×", "3.00 ×", "met"]
    assert harness.now["pythae"]["median"] == 3.0


def test_rows_of_another_machine_stay_and_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as there:
        there.setattr(harness, "machine", lambda device: "one card")
        harness.row("gpu-nll", [9.0], note="all of it")
    harness.row("mlp-32", [1.0])
    text = harness.table(harness.kept())
    assert {line("gpu-nll")[2], line("mlp-32")[2]} == {"met¹", "met²"}
    assert "one card." in text
    assert "all of it." in text


def test_a_quick_run_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "QUICK", True)
    harness.row("mlp-32", [1.0])
    assert not harness.KEPT.exists()
    assert harness.now["mlp-32"]["median"] == 1.0


def test_a_work_between_two_others_is_divided_by_both() -> None:
    theirs = iter([9.0, 1.0, 3.0, 5.0])  # the first one warms up
    assert harness.alternated(lambda: 4.0, lambda: next(theirs), times=2).ratios == [2.0, 1.0]


def test_every_row_has_a_key_of_its_own() -> None:
    keys = [claim.key for claim in targets.ROWS]
    assert len(set(keys)) == len(keys)
