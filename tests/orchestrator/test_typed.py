"""What quantsweep prints to be typed works as it stands, wherever it was installed and started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.app import app
from orchestrator.cli.typed import command, program
from orchestrator.sweep import SWEEPS, SweepResult
from results.store import RunStore
from tests.results.conftest import make_row

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The script of an installation in the current folder, which this process was started by."""
    path = tmp_path / ".venv" / "bin" / "quantsweep"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path), "run"])
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return path


def test_off_the_path_it_is_the_path_from_here(script: Path) -> None:
    assert command("show", "runs/x y") == ".venv/bin/quantsweep show 'runs/x y'"


def test_on_the_path_it_is_the_name(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{script.parent}:/bin")
    assert program() == ["quantsweep"]


def test_another_one_on_the_path_is_not_taken_for_this(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other" / "quantsweep"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{other.parent}:/bin")
    assert program() == [".venv/bin/quantsweep"]


def test_elsewhere_it_is_the_whole_path(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/usr")
    assert program() == [str(script)]


def test_as_a_module_it_is_the_python_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(ROOT / "orchestrator" / "__main__.py")])
    assert program()[-2:] == ["-m", "orchestrator"]


@pytest.mark.long
def test_every_line_that_the_quickstart_ends_with_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run_sweep(_: object, *, out_dir: Path, **__: object) -> SweepResult:
        with RunStore(out_dir) as store:
            store.commit(make_row())
        (out_dir / "spec.toml").write_text((SWEEPS / "quickstart.toml").read_text())
        return SweepResult(out_dir, jobs=1, done=1, failed=0)

    monkeypatch.setattr("orchestrator.sweep.run_sweep", run_sweep)
    with pytest.raises(SystemExit) as ended:
        app(["run", "quickstart"], prog_name="quantsweep")
    assert ended.value.code == 0
    said = capsys.readouterr().err.splitlines()
    typed = [line.partition(": ")[2] for line in said if ": " in line and not line.startswith("results")]
    shown = []
    for line in typed:
        if " run " in f" {line} ":
            continue  # the quickstart's own minute, once more
        done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, (line, done.stderr)
        shown.append(done.stdout)
    assert "standin on todo" in shown[0]
    assert "qwen3-8b" in shown[1]
    assert (tmp_path / "my-sweep.toml").is_file()
    assert "6 cells" in shown[3]
    assert typed[-1].endswith(" run my-sweep.toml")
