"""`quantsweep doctor`: what it calls off, that nothing stops or outlives it, and that its block names nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from typer.testing import CliRunner

import orchestrator.doctor.examine
from orchestrator.cli.app import app
from orchestrator.doctor.examine import engine_findings, examine, name_of
from orchestrator.doctor.findings import Diagnosis, Finding
from orchestrator.doctor.readings import judge_readings
from orchestrator.doctor.report import block, render
from orchestrator.doctor.trials import run_trial, trials_of
from profiles.probe.engines import matched_anew
from profiles.samples import Samples
from profiles.types import Device, EngineDevice, FoundEngine, NodeProfile
from runners.devicelock import device_key, take
from runners.engines.base import BufferSizes
from runners.exams.base import Specimen
from tests.profiles.machines import nvidia
from tests.profiles.nvml import build as nvml
from tests.runners import played_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20
CPU = Device("cpu", "cpu", "A CPU", "cpu", memory_total_bytes=8 << 30, memory_free_bytes=8 << 30)
CARD = replace(nvidia(0, "GeForce RTX 5090", 31.8), power_limit_w=575.0)
CUDA = FoundEngine("llama-server", "/x", "b1", (EngineDevice("CUDA0", CARD.name),))
NO_GPU = FoundEngine("embedded", None, "xllamacpp 1")


def profile(*devices: Device, engines: tuple[FoundEngine, ...] = ()) -> NodeProfile:
    found = matched_anew(engines, devices)
    return NodeProfile("den-7", "Linux 6.1", "x86_64", "2026-01-01T00:00:00Z", devices=devices, engines=found)


def off(findings: Iterator[Finding] | list[Finding]) -> list[str]:
    return [finding.said for finding in findings if finding.state == "off"]


class Told:
    """Stands for a served model, as far as the readings look at it."""

    buffers = BufferSizes(model_bytes={"CUDA0": 100 * MIB, "CPU_Mapped": 900 * MIB}, compute_bytes={"CUDA0": 20 * MIB})


GOOD = {"peak_vram_bytes": 600 * MIB, "energy_j": 150.0, "mean_power_w": 100.0, "throttle_reasons": ("idle",)}


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({}, []),
        ({"peak_vram_bytes": 0}, ["less than it allocated"]),
        ({"peak_vram_bytes": 9000 * MIB}, ["far more"]),
        ({"peak_vram_bytes": None, "reasons": {"peak_vram_bytes": "no counter"}}, []),
        ({"energy_j": 0.0}, ["takes some"]),
        ({"mean_power_w": 900.0}, ["above its limit of 575 W"]),
        ({"energy_j": None, "throttle_reasons": None}, []),
        ({"throttle_reasons": ("thermal",)}, []),
    ],
)
def test_readings_that_cannot_be_are_off(changed: dict[str, Any], wrong: list[str]) -> None:
    window = Samples(2.0, 20, **{**GOOD, **changed})
    found = judge_readings("x", CARD, "CUDA0", Told(), (replace(window, energy_j=None), window))  # type: ignore[arg-type]  # stands for one
    assert len(off(found)) == len(wrong)
    assert all(part in said for part, said in zip(wrong, off(found), strict=True))
    assert all(finding.cure for finding in found if finding.state == "off")


def test_memory_of_a_server_on_the_cpu_is_held_against_what_it_allocated() -> None:
    on_cpu = Told()
    on_cpu.buffers = BufferSizes(model_bytes={"CPU_Mapped": 900 * MIB}, compute_bytes={"CPU": 100 * MIB})
    for peak, wrong in ((300 * MIB, 0), (10 * MIB, 1), (None, 1)):
        window = Samples(2.0, 20, peak_ram_bytes=peak)
        assert len(off(judge_readings("x", CPU, "CPU", on_cpu, (window, window)))) == wrong  # type: ignore[arg-type]  # as above


def test_a_gpu_on_which_no_engine_computes_is_off() -> None:
    assert off(engine_findings(profile(CPU, CARD, engines=(CUDA, NO_GPU)))) == []
    (said,) = off(engine_findings(profile(CPU, CARD, engines=(NO_GPU,))))
    assert said == "no engine computes on NVIDIA GeForce RTX 5090: embedded: it lists no GPU"
    assert off(engine_findings(profile(CPU, replace(CARD, excluded="for games"), engines=(NO_GPU,)))) == []
    assert "no engine is here" in off(engine_findings(profile(CPU)))[0]
    assert (
        "its memory is not known"
        in off(engine_findings(profile(CPU, replace(CARD, memory_free_bytes=None), engines=(CUDA,))))[0]
    )


def children() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}


def test_the_embedded_engine_on_the_cpu_is_tried_as_a_lease_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTSWEEP_LOCKS", "off")
    before = children()
    (trial,) = trials_of("embedded", profile(CPU, engines=(NO_GPU,)))
    found = run_trial(trial)
    assert off(found) == []
    assert found[0].said.startswith("as CPU (cpu): loaded in ")
    assert "tokens at" in found[0].said
    assert any("MiB of buffers in its log" in finding.said for finding in found)
    assert children() <= before


def test_an_engine_that_does_not_start_is_off_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTSWEEP_LOCKS", "off")
    before = children()
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\n[ \"$1\" = --version ] && echo 'version: 1 (abcdef1)' && exit 0\nexit 3\n")
    program.chmod(0o755)
    broken = FoundEngine("llama-server", str(program), "1 (abcdef1)")
    (trial,) = trials_of("llama-server", profile(CPU, engines=(broken,)))
    (said,) = off(run_trial(trial))
    assert "exit code 3" in said
    assert children() <= before


def test_a_device_in_use_is_not_taken_from_whoever_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTSWEEP_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setattr("orchestrator.doctor.trials.LOCK_S", 0.5)
    (trial,) = trials_of("embedded", profile(CPU, engines=(NO_GPU,)))
    lock = take(device_key("cpu", CPU), sweep="mine", what="m", cancelled=threading.Event(), waiting=lambda _: None)
    assert lock is not None
    (finding,) = run_trial(trial)
    lock.release()
    assert (finding.state, finding.said) == ("note", "not tried: the device is in use")
    assert "mine" in finding.cure


def test_a_check_that_fails_keeps_no_other_from_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> NodeProfile:
        raise OSError("the disk hangs")

    monkeypatch.setattr("profiles.probe.probe_node", fail)
    monkeypatch.setattr(orchestrator.doctor.examine, "_exam", lambda name: iter([Finding("ok", name, "full marks")]))
    diagnosis = examine()
    assert off(list(diagnosis.findings)) == ["the check failed: OSError: the disk hangs"]
    assert ("ok", "full marks") in {(each.state, each.said) for each in diagnosis.findings}


def test_what_the_owner_wrote_wrongly_is_said_as_any_command_says_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "machine.toml").write_text("nonsense = 1")
    monkeypatch.setenv("QUANTSWEEP_MACHINE", str(tmp_path / "machine.toml"))
    monkeypatch.setattr(orchestrator.doctor.examine, "_exam", lambda _: iter(()))
    (said,) = off(list(examine().findings))
    assert said.startswith(f"{tmp_path / 'machine.toml'}: unknown key 'nonsense'")


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("note", 0), ("off", 1)])
def test_the_exit_code_says_whether_anything_is_off(monkeypatch: pytest.MonkeyPatch, state: Any, code: int) -> None:
    diagnosis = Diagnosis((Finding(state, "x", "said", "do this"),), profile(CPU))
    monkeypatch.setattr(orchestrator.doctor.examine, "examine", lambda _say: diagnosis)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == code
    assert ("mend it: do this" in result.output) == (state == "off")
    told = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).output)
    assert (told["off"], told["findings"][0]["state"]) == (code, state)


def test_the_block_for_a_bug_report_names_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: "marvin.example.org")
    monkeypatch.setattr("getpass.getuser", lambda: "zaphod")
    monkeypatch.setenv("HOME", "/home/zaphod")
    uuid = "GPU-5090aaaa-0000-4000-8000-000000000001"
    card = replace(CARD, uuid=uuid)
    findings = (
        Finding("off", "llama-server", "/home/zaphod/llama.cpp/llama-server does not run; see /home/ford/x on marvin"),
        Finding("ok", "den-7", f"zaphod's den-7 has {uuid}"),
    )
    diagnosis = Diagnosis(findings, profile(CPU, card, engines=(replace(CUDA, path="/home/zaphod/bin/x"),)))
    text = "\n".join(block(diagnosis))
    for name in ("zaphod", "marvin", "ford", "den-7", "5090aaaa", "example"):
        assert name not in text, name
    assert "nvidia-0 = CUDA0, by its name [CUDA_VISIBLE_DEVICES=GPU-...]" in text
    assert "NVIDIA GeForce RTX 5090" in text
    assert render(diagnosis)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "wrong"),
    [("", None), ("cpu", "it computes on the CPU"), ("wrong", "it computes on CUDA0 at PCI 0000:0")],
)
def test_two_cards_that_are_played(tmp_path: Path, mode: str, wrong: str | None) -> None:
    if nvml.compiler() is None:
        pytest.skip("no C compiler: the library that plays NVML cannot be built")
    config = nvml.write(
        nvml.build(tmp_path / "nvml") / "cards.conf", [nvml.CARDS["rtx-5090"], nvml.CARDS["rtx-5060-ti"]]
    )
    environment = {
        **nvml.environment(tmp_path / "nvml", config),
        "LLAMA_SERVER": str(played_server.install(tmp_path, mode)),
        "QUANTSWEEP_LOCKS": "off",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    argv = [sys.executable, "-m", "orchestrator", "doctor", "--json"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300, check=False)
    told = json.loads(done.stdout)
    found = [each for each in told["findings"] if each["about"].startswith("llama-server on nvidia-")]
    wrongs = [each for each in told["findings"] if each["state"] == "off"]
    assert done.returncode == (0 if wrong is None else 1)
    if wrong is None:
        assert wrongs == []
        assert sum("by its UUID" in each["said"] for each in found) == 2
        assert sum("472" in each["said"] and "12.5 MiB of buffers" in each["said"] for each in found) == 2
    else:
        assert [wrong in each["said"] for each in wrongs] == [True, True]


@pytest.mark.parametrize(("name", "said"), [("reference", "reference"), ("two turns", "reference two turns")])
def test_a_reference_is_named_once(name: str, said: str) -> None:
    assert name_of(Specimen(name, "reference", "")) == said
