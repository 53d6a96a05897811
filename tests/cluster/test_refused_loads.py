"""A real sweep with a model that no engine knows and a flag that no build has: each is loaded once, the rest is run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import quants
from results.store import read_run
from tests.runners import llama_server_program
from tests.runners.tiny_gguf import write_tiny_llama

pytestmark = [pytest.mark.cluster, pytest.mark.long]

STAND_IN = Path(quants.__file__).parent / "standin" / "standin-Q2_K.gguf"
SPEC = """\
name = "refused"
seeds = [1, 2]
exams = ["todo"]
[sampling]
max_tokens = 20
[engine]
kind = "{kind}"
context = 1024
threads = 1
[[models]]
name = "good"
source = "{good}"
[[models]]
name = "strange"
source = "{strange}"
"""
BAD_FLAG = '[models.engine]\nextra_args = ["--no-such-flag"]\n'


@pytest.mark.parametrize("kind", ["embedded", "llama-server"])
def test_what_cannot_load_is_loaded_once_and_named(kind: str, tmp_path: Path) -> None:
    strange = write_tiny_llama(tmp_path / "strange-F32.gguf", architecture="llama9")
    text = SPEC.format(kind=kind, good=STAND_IN, strange=strange)
    expected = {("good", "max_tokens"), ("strange", "unsupported_model")}
    if kind == "llama-server":
        text += f'[[models]]\nname = "flagged"\nsource = "{STAND_IN}"\n{BAD_FLAG}'
        expected.add(("flagged", "refused_settings"))
    spec = tmp_path / "refused.toml"
    spec.write_text(text, encoding="utf-8")
    server = os.environ.get("LLAMA_SERVER") or str(llama_server_program.install(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "run", str(spec), "--out", str(tmp_path / "run")],
        env={**os.environ, "LLAMA_SERVER": server},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    rows = read_run(tmp_path / "run").table.to_pylist()
    assert {(row["model"], row["outcome"]) for row in rows if row["final"]} == expected
    assert all("llama9" in row["error"] for row in rows if row["model"] == "strange")
    lines = (tmp_path / "run" / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    started = sum(json.loads(line).get("event") == "lease_started" for line in lines)
    assert started == len(expected), "a cell was loaded more than once"
    assert done.stderr.count(" failed: ") == len(expected) - 1
