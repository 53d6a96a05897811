"""What holds for every test: CI allows no skip, and nothing of a test lands in the user's own folders."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A skipped test on a developer's machine is a missing package; in CI it is a hole."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("CI") or exitstatus != pytest.ExitCode.OK:
        return
    if skipped := reporter.stats.get("skipped", []):
        reporter.write_line(f"CI allows no skipped tests, and {len(skipped)} were skipped", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that take long are left out, not skipped, unless QUANTSWEEP_SLOW is set."""
    if os.environ.get("QUANTSWEEP_SLOW"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if not item.get_closest_marker("slow")]


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """State, caches and device locks of ours go to a folder of the test."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("QUANTSWEEP_LOCKS", str(folder / "locks"))
    monkeypatch.setenv("QUANTSWEEP_STATE", str(folder / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    return folder
