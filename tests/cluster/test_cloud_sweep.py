"""A whole sweep over Ray against an endpoint that answers to a key: planned, run, shown, and the key is nowhere.

The endpoint is llama.cpp's own server behind its `/v1`, played by a process of this test's; the sweep knows its address
and the name of a variable.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from importlib.resources import files
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Self

import psutil
import pytest

import quants.standin
import runners.engines.embedded
from results.store import read_run
from runners.engines import get_engine
from runners.engines.settings import EmbeddedSettings
from tests.cluster.heads import ray_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runners.engines.base import Served

pytestmark = [pytest.mark.cluster, pytest.mark.long]

STAND_IN = Path(str(files(quants.standin))) / "standin-Q8_0.gguf"
KEY = "sk-qs-secret-of-the-cloud-4711-0815-key"
VARIABLE = "QS_CLOUD_KEY"
SPEC = """
name = "cloudy"
seeds = "1-3"
exams = ["todo"]
[sampling]
max_tokens = 300
temperature = 0.0
[engine]
kind = "{kind}"
base_url = "{url}/v1"
key_env = "QS_CLOUD_KEY"
concurrency = 2
price_in = 2.5
price_cached = 0.25
price_out = 10
[[models]]
name = "big-model"
source = "stand-in"
"""


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Served]:
    monkeypatch.setattr(runners.engines.embedded, "new_key", lambda: KEY)
    settings = EmbeddedSettings(context=2048, threads=1, slots=2)
    served = get_engine("embedded").load(STAND_IN, settings, log_path=tmp_path / "their.log", device="CPU")
    yield served
    served.stop()


@pytest.fixture
def base() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="qst-", dir="/tmp"))
    yield folder
    rmtree(folder, ignore_errors=True)


class Searcher:
    """Looks for the key while the sweep runs: in every file below some folders, and in the lists of processes."""

    def __init__(self, *folders: Path) -> None:
        self._folders = folders
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking)
        self.found: set[str] = set()
        self.files = self.processes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.look()

    def _keep_looking(self) -> None:
        while not self._over.wait(0.5):
            self.look()

    def look(self) -> None:
        for folder in self._folders:
            for path in folder.rglob("*"):
                with contextlib.suppress(OSError):
                    if path.is_file() and not path.is_symlink():
                        self.files += 1
                        if KEY.encode() in path.read_bytes():
                            self.found.add(str(path))
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                self.processes += 1
                if KEY in " ".join(process.cmdline()):
                    self.found.add(f"process {process.pid}: {process.name()}")


def quantsweep(base: Path, *arguments: str | Path, key: str | None = KEY) -> subprocess.CompletedProcess[str]:
    environment = ray_environment(
        TMPDIR=str(base),
        QUANTSWEEP_STATE=str(base / "state"),
        COLUMNS="120",
        PYTHONPATH=os.environ.get("PYTHONPATH", "."),
    )
    environment.pop(VARIABLE, None)
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env=environment | ({} if key is None else {VARIABLE: key}),
    )


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_sweep_in_the_cloud_is_planned_run_and_shown_and_its_key_is_nowhere(
    cloud: Served, base: Path, kind: str
) -> None:
    (base / "state").mkdir()
    spec, run = base / "cloudy.toml", base / "run"
    spec.write_text(SPEC.format(url=cloud.base_url, kind=kind))
    without = quantsweep(base, "plan", spec, key=None)
    assert without.returncode != 0
    assert f"the variable {VARIABLE}, which should hold the key, is not set" in " ".join(without.stderr.split())
    planned = quantsweep(base, "plan", spec)
    assert planned.returncode == 0, planned.stderr
    assert "big-model" in planned.stdout
    with Searcher(base) as searched:
        done = quantsweep(base, "run", spec, "--out", run)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = quantsweep(base, "show", run)
    as_json = json.loads(quantsweep(base, "show", run, "--json").stdout)
    assert searched.found == set()
    assert searched.files > 20
    for each in (without, planned, done, shown):
        assert KEY not in each.stdout + each.stderr
    rows = read_run(run).table.to_pylist()
    assert {(row["final"], row["outcome_class"]) for row in rows} <= {(True, "model"), (True, "budget")}
    assert len(rows) == 3
    for row in rows:
        assert (row["engine"], row["provider"], row["provider_model"]) == (kind, f"{cloud.base_url}/v1", "stand-in")
        assert row["device"] in {f"{cloud.base_url}/v1@{row['node']}#{number}" for number in (1, 2)}
        whole, cached = row["prompt_tokens"], row["cached_tokens"] or 0
        generated = row["answer_tokens"] + row["reasoning_tokens"]
        cost = ((whole - cached) * 2.5 + cached * 0.25 + generated * 10) / 1e6
        assert row["cost"] == pytest.approx(cost)
        assert row["currency"] == "USD"
        assert row["ttft_any_s"] > 0
        assert row["decode_tps_client"] > 0
    (summary,) = as_json["summaries"]
    assert summary["costs"]["USD"] == pytest.approx(sum(row["cost"] for row in rows))
    assert "cost" in shown.stdout
    assert "USD" in shown.stdout
