"""Sweeps that end early on purpose or by accident: Ctrl-C, a full disk, a second start, another spec."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from results.store import read_run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.cluster

SPEC = """\
name = "stopped"
seeds = "1-{seeds}"
exams = ["todo"]
[sampling]
max_tokens = 60
[engine]
context = 1024
threads = 1
[[models]]
name = "tiny"
source = "{model}"
"""


def command(folder: Path, model: Path, seeds: int) -> list[str]:
    spec = folder / f"{seeds}.toml"
    spec.write_text(SPEC.format(model=model, seeds=seeds))
    return [sys.executable, "-m", "orchestrator", "run", str(spec), "--out", str(folder / "run")]


def rows_in(folder: Path) -> int:
    run = folder / "run"
    rows: int = read_run(run, ["job_id"]).table.num_rows if run.is_dir() else 0
    return rows


def wait_for_rows(process: subprocess.Popen[str], folder: Path, number: int) -> None:
    deadline = time.monotonic() + 120
    while rows_in(folder) < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def engines() -> list[psutil.Process]:
    """llama.cpp servers that this test's sweeps started."""
    found = []
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("QUANTSWEEP_STATE") == os.environ["QUANTSWEEP_STATE"]
            if mine and "embedded_child" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(tmp_path: Path, tiny_model: Path) -> None:
    arguments = command(tmp_path, tiny_model, 400)
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for_rows(process, tmp_path, 2)
    second = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 2
    assert f"a run of this folder is alive (process {process.pid} on " in second.stderr
    # A terminal sends the signal to the whole process group, Ray's processes included.
    os.killpg(process.pid, signal.SIGINT)
    _, text = process.communicate(timeout=90)
    assert process.returncode == 2, text
    assert "Traceback" not in text
    kept = read_run(tmp_path / "run").table.num_rows
    assert re.search(rf"{kept} of 400 jobs are done and kept\. To go on: .* run {tmp_path}/400\.toml --out", text)
    assert 2 <= kept < 400
    assert not engines()

    spec = tmp_path / "400.toml"
    spec.write_text(spec.read_text().replace("context = 1024", "context = 1000"))
    other = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert other.returncode == 2
    assert "rows of this spec cannot stand beside those of this run. What differs:" in other.stderr
    assert "tiny: engine.context: was 1024, is 1000" in other.stderr


@pytest.mark.long
def test_a_full_disk_stops_the_sweep_and_loses_nothing(tmp_path: Path, tiny_model: Path) -> None:
    """The run folder is a tmpfs of 160 kB in a mount namespace of the sweep's own, which an ordinary user may make."""
    arguments = command(tmp_path, tiny_model, 30)
    (tmp_path / "run").mkdir()
    kept = tmp_path / "kept"
    script = 'mount -t tmpfs -o size=160k none "$1" && cp="$2"; shift 2; "$@"; code=$?; '
    script += f'cp -r "{tmp_path}/run" "$cp"; exit $code'
    done = subprocess.run(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
            tmp_path / "run",
            kept,
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "No space left on device" in done.stderr
    assert re.search(r"To go on: .* run ", done.stderr)
    read = read_run(kept)
    assert read.table.num_rows > 0
    assert not read.torn
    # With room again, the same command finishes what is left, the row that found no room included.
    for path in sorted(kept.iterdir()):
        path.rename(tmp_path / "run" / path.name)
    again = subprocess.run(arguments, capture_output=True, text=True, timeout=240, check=False)
    assert again.returncode == 0, again.stderr
    table = read_run(tmp_path / "run").table.to_pylist()
    assert sorted(row["seed"] for row in table if row["final"]) == list(range(1, 31))


@pytest.mark.long
def test_a_run_folder_that_is_deleted_meanwhile_ends_the_sweep_and_nothing_is_said_to_be_kept(
    tmp_path: Path, tiny_model: Path
) -> None:
    process = subprocess.Popen(
        command(tmp_path, tiny_model, 400), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for_rows(process, tmp_path, 2)
    while (tmp_path / "run").exists():  # the sweep writes to it
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
    _, text = process.communicate(timeout=120)
    assert process.returncode == 2, text
    assert "Traceback" not in text
    assert "was deleted while the sweep ran, and" in text
    assert not re.search(r"[1-9]\d* of 400 jobs are done", text)
    assert not engines()


@pytest.mark.long
def test_a_machine_without_a_sandbox_runs_nothing_and_says_what_mends_it(tmp_path: Path, tiny_model: Path) -> None:
    """User namespaces are forbidden inside one of our own, which is what a hardened machine looks like from inside."""
    script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh", *command(tmp_path, tiny_model, 2)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "nothing can be graded on this machine" in done.stderr
    assert "sysctl" in done.stderr
    assert rows_in(tmp_path) == 0
