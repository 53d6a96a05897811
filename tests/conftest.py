"""What holds for every test: CI allows no skip, and nothing of a test lands in the user's own folders."""

from __future__ import annotations

import os
import signal
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A skipped test on a developer's machine is a missing package; in CI it is a hole."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("CI") or exitstatus != pytest.ExitCode.OK:
        return
    if skipped := reporter.stats.get("skipped", []):
        reporter.write_line(f"CI allows no skipped tests, and {len(skipped)} were skipped", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: tests wait for clusters, disks and deaths for a good part of their time."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that take long are left out, not skipped, unless QUANTSWEEP_SLOW is set, or `-m` asks for that kind."""
    if os.environ.get("QUANTSWEEP_SLOW"):
        return
    left_out = {"slow", "long", "proof"} - {config.option.markexpr}
    found = [item for item in items if any(map(item.get_closest_marker, left_out))]
    config.hook.pytest_deselected(items=found)
    items[:] = [item for item in items if item not in found]


def pytest_configure() -> None:
    """Tests send these to themselves; a shell ignores them for what it runs in the background."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _children() -> dict[int, str]:
    """Processes below this one, but for the helpers of `runners.textwork`, which stay as long as we do."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            words = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if words and "textwork" not in words:
            found[process.pid] = words
    return found


@pytest.fixture(scope="module", autouse=True)
def no_process_is_left() -> Iterator[None]:
    """What one module leaves behind, another takes for its own, minutes later and somewhere else."""
    before = _children()
    yield
    left = {pid: words for pid, words in _children().items() if pid not in before}
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in left if psutil.pid_exists(pid)], timeout=5)
    assert not alive, f"processes are left: {[left[process.pid] for process in alive]}"


_homes = count()


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """State, caches and device locks of ours go to a folder of the test.

    But for compiled standard libraries: they take minutes, are never written to again, and stay with the environment.
    """
    # Not by `mktemp`: it looks through all folders of its name for the next number, and there are thousands of tests.
    folder = tmp_path_factory.getbasetemp() / f"home{next(_homes)}"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("QUANTSWEEP_LOCKS", str(folder / "locks"))
    monkeypatch.setenv("QUANTSWEEP_STATE", str(folder / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setenv("QUANTSWEEP_TOOLCHAINS", str(Path(sys.prefix, "toolchains")))
    return folder
