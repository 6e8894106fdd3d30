"""Prints the speed table after the benchmarks, and gives them their data."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.distributions import Distribution

from benchmark import harness


@pytest.fixture
def float32(_exact: None) -> Iterator[None]:
    """As a run has it: float32, and nothing checked."""
    torch.set_default_dtype(torch.float32)
    Distribution.set_default_validate_args(False)
    return


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not harness.now:
        return
    terminalreporter.section("quick: these figures mean nothing" if harness.QUICK else "speed")
    found = harness.now if harness.QUICK else harness.now | harness.kept()
    terminalreporter.write_line(harness.table(found))
