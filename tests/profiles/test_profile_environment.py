from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from profiles.environment import child_environment, may_pass
from profiles.errors import OverrideError
from profiles.probe.system import System

if TYPE_CHECKING:
    from pathlib import Path

SECRETS = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "NVIDIA_API_KEY",
    "NGC_API_KEY",
    "RAY_AUTH_TOKEN",
    "RAY_AUTH_TOKEN_PATH",
    "AWS_SECRET_ACCESS_KEY",
    "GITHUB_TOKEN",
    "SSH_AUTH_SOCK",
    "HTTPS_PROXY",
    "PIP_INDEX_URL",
    "LLAMA_API_KEY",
    "LLAMA_ARG_HF_TOKEN",
    "GGML_RPC_PASSWORD",
    "QUANTSWEEP_TOKEN",
)
NEEDED = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"),
    *("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HSA_OVERRIDE_GFX_VERSION", "GGML_VK_VISIBLE_DEVICES"),
    *("VK_ICD_FILENAMES", "ONEAPI_DEVICE_SELECTOR", "ZE_AFFINITY_MASK", "OMP_NUM_THREADS", "QUANTSWEEP_STATE"),
)


@pytest.fixture(autouse=True)
def _no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("QUANTSWEEP_MACHINE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "sekrit")
    assert not may_pass(name)
    assert "sekrit" not in child_environment().values()


@pytest.mark.parametrize("name", NEEDED)
def test_what_an_engine_needs_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "value")
    assert child_environment()[name] == "value"


def test_what_is_given_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE")
    assert child_environment(LC_ALL="C", LLAMA_API_KEY="ours") == child_environment() | {
        "LC_ALL": "C",
        "LLAMA_API_KEY": "ours",
    }


def test_the_machines_owner_may_pass_more_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "machine.toml"
    path.write_text('pass_on = ["LD_PRELOAD", "NVIDIA_API_KEY"]\n')
    monkeypatch.setenv("QUANTSWEEP_MACHINE", str(path))
    for name in ("LD_PRELOAD", "NVIDIA_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "value")
    passed = child_environment()
    assert (passed["LD_PRELOAD"], passed["NVIDIA_API_KEY"], "HF_TOKEN" in passed) == ("value", "value", False)
    for wrong in ('pass_on = "LD_PRELOAD"', "pass_on = ['A=B']", "pass_on = [1]"):
        path.write_text(wrong)
        with pytest.raises(OverrideError, match="pass_on has to be a list of names"):
            child_environment()


def test_a_program_that_is_probed_sees_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "sekrit")
    said = System().output([sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"])
    assert said is not None
    seen = json.loads(said)
    assert "sekrit" not in seen.values()
    assert (seen["LC_ALL"], seen["PATH"]) == ("C", child_environment()["PATH"])
