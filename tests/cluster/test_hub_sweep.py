"""A sweep of a model on the Hub, through the real huggingface_hub: pinned, fetched once, usable offline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from results.store import read_run
from tests.hubserver.server import LocalHub

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.cluster

SPEC = """\
name = "hub"
seeds = "1-2"
exams = ["todo"]
[sampling]
max_tokens = 60
[engine]
context = 1024
threads = 1
[[models]]
name = "tiny"
source = "hf:owner/{repo}"
"""


def sweep(folder: Path, repo: str, out: str, **env: str) -> subprocess.CompletedProcess[str]:
    spec = folder / f"{repo}.toml"
    spec.write_text(SPEC.format(repo=repo))
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", "run", str(spec), "--out", str(folder / out)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "HF_HOME": str(folder / "hf"), **env},
    )


@pytest.mark.long
def test_a_model_of_the_hub_is_pinned_fetched_once_and_usable_offline(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "store").mkdir()
    with LocalHub(tmp_path / "store") as hub:
        hub.add("owner/tiny-GGUF", {"tiny-F32.gguf": tiny_model})
        hub.add("owner/locked-GGUF", {"tiny-F32.gguf": tiny_model}, gated=True)
        env = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1"}
        first = sweep(tmp_path, "tiny-GGUF", "one", **env)
        assert first.returncode == 0, first.stderr
        rows = read_run(tmp_path / "one").table.to_pylist()
        pinned = json.loads((tmp_path / "one" / "plan.json").read_text())["cells"][0]["model"]["artifact"]
        assert len(pinned["revision"]) == 40
        assert {(row["repo"], row["revision"], row["file_sha256"]) for row in rows} == {
            ("owner/tiny-GGUF", pinned["revision"], pinned["files"][0]["sha256"])
        }
        sent = hub.file_bytes_sent()
        assert sent >= tiny_model.stat().st_size
        assert sweep(tmp_path, "tiny-GGUF", "two", **env).returncode == 0
        assert hub.file_bytes_sent() - sent < tiny_model.stat().st_size, "what is in the cache is not fetched again"
        for repo, words in (("locked-GGUF", "gated"), ("missing-GGUF", "missing-GGUF")):
            refused = sweep(tmp_path, repo, "refused", **env)
            assert refused.returncode == 2
            assert words in refused.stderr
            assert f"{repo}.toml:11: models[0].source:" in refused.stderr
            assert "Traceback" not in refused.stderr
    offline = sweep(tmp_path, "tiny-GGUF", "three", **env)
    assert offline.returncode == 0, offline.stderr
    assert "warning" not in offline.stderr
    never = sweep(tmp_path, "other-GGUF", "four", **env)
    assert never.returncode == 2
    assert "Traceback" not in never.stderr
