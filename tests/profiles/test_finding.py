"""One place that finds engines: who is asked first, what is said of what is not there, and each card by its UUID."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import psutil
import pytest

from profiles.probe.engines import OF_OWNER, Wanted, find_engines
from profiles.probe.unlisted import devices_of_engines, unmatched_notices
from profiles.programs import NotHereError, find_llama_server, find_planner
from profiles.types import Device
from profiles.visibility import left_alone
from tests.profiles.machines import nvidia

if TYPE_CHECKING:
    from pathlib import Path

    from tests.profiles.conftest import Machine

CARDS = (nvidia(0, "GeForce RTX 3090", 24), nvidia(1, "GeForce RTX 3090", 24))
CUDA = """
case "$1" in
--version) echo 'version: 6710 (abc1234)';;
--list-devices)
    echo 'Available devices:'
    number=0
    for uuid in GPU-0 GPU-1; do
        case "${CUDA_VISIBLE_DEVICES:-$uuid}" in *$uuid*)
            echo "  CUDA$number: NVIDIA GeForce RTX 3090 (24124 MiB, 23800 MiB free)"; number=$((number + 1));;
        esac
    done
    kill -SEGV $$;;
esac
"""


def program(folder: Path, name: str = "llama-server") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_who_is_asked_first(tmp_path: Path) -> None:
    spec, owner, variable, on_path = (program(tmp_path / name) for name in ("spec", "owner", "variable", "path"))
    built = program(tmp_path / "builds" / "llama-cpp-1" / "bin")
    places = {
        "in_spec": str(spec),
        "of_owner": str(owner),
        "environment": {"LLAMA_SERVER": str(variable)},
        "search_path": str(on_path.parent),
        "builds": tmp_path / "builds",
    }
    order = (("engine.binary", spec), ("machine.toml", owner), ("LLAMA_SERVER", variable), ("PATH", on_path))
    for (origin, path), place in zip((*order, ("make llama-cpp", built)), places, strict=True):
        found = find_llama_server(**places)  # type: ignore[arg-type]  # as named above
        assert (found.origin, found.path) == (origin, path)
        places[place] = {"environment": {}, "search_path": str(tmp_path), "builds": tmp_path}.get(place)
    with pytest.raises(NotHereError) as caught:
        find_llama_server(**places)  # type: ignore[arg-type]  # as named above
    assert not caught.value.is_named


def test_nobody_gets_another_program_than_the_one_that_was_named(tmp_path: Path) -> None:
    here = program(tmp_path)
    asleep = program(tmp_path, "asleep")
    asleep.chmod(0o644)
    for path, why in ((tmp_path / "gone", "does not exist"), (tmp_path, "is a folder"), (asleep, "not executable")):
        with pytest.raises(NotHereError, match=why) as caught:
            find_llama_server(of_owner=str(path), search_path=str(here.parent), environment={}, builds=tmp_path)
        assert caught.value.is_named


def test_the_planner_is_the_one_beside_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    on_path = program(tmp_path / "bin", "llama-fit-params")
    server = program(tmp_path / "build")
    assert find_planner(server) == on_path
    beside = program(tmp_path / "build", "llama-fit-params")
    assert find_planner(server) == beside


def test_only_the_variable_is_set_and_the_machine_offers_that_program(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner found it, and the profile said that the engine was not there."""
    from profiles.probe.system import System

    path = machine.program("my-server", "echo 'version: 6710 (abc1234)'")
    monkeypatch.setenv("LLAMA_SERVER", str(path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    server = find_engines(System())[0]
    assert (server.kind, server.path, server.origin, server.problem) == (
        "llama-server",
        str(path),
        "LLAMA_SERVER",
        None,
    )


def test_a_program_that_a_spec_names_is_asked_beside_the_machines_own(machine: Machine) -> None:
    machine.program("llama-server", "echo 'version: 1 (x)'")
    mine = machine.program("mine", "echo 'version: 2 (y)'")
    own, named, absent, *_ = find_engines(machine.system, Wanted(binaries=(str(mine), "/nowhere/llama-server")))
    assert (own.build, own.named) == ("1 (x)", None)
    assert (named.build, named.named, named.origin) == ("2 (y)", str(mine), "engine.binary")
    assert "/nowhere/llama-server, which does not exist" in (absent.problem or "")


def test_equal_cards_are_told_apart_by_asking_for_each_and_a_crash_at_the_end_takes_no_list_away(
    machine: Machine,
) -> None:
    machine.program("llama-server", CUDA)
    server = find_engines(machine.system, devices=CARDS)[0]
    assert server.problem is None
    assert [(match.name, match.how, match.visible) for match in server.matches] == [
        ("CUDA0", "by its UUID", ("CUDA_VISIBLE_DEVICES=GPU-0",)),
        ("CUDA0", "by its UUID", ("CUDA_VISIBLE_DEVICES=GPU-1",)),
    ]


ROCM = CUDA.replace("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES").replace("CUDA$", "ROCm$")
AMD_CARDS = tuple(replace(card, id=f"amd-{n}", vendor="amd") for n, card in enumerate(CARDS))


def test_equal_amd_cards_are_asked_for_by_their_uuid_unless_their_owner_chose(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.program("llama-server", ROCM.replace("NVIDIA GeForce RTX 3090", CARDS[0].name))
    for name in OF_OWNER:
        monkeypatch.delenv(name, raising=False)
    server = find_engines(machine.system, devices=AMD_CARDS)[0]
    assert [(match.name, match.visible) for match in server.matches] == [
        ("ROCm0", ("ROCR_VISIBLE_DEVICES=GPU-0", "HIP_VISIBLE_DEVICES=0")),
        ("ROCm0", ("ROCR_VISIBLE_DEVICES=GPU-1", "HIP_VISIBLE_DEVICES=0")),
    ]
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "GPU-1")
    chosen = find_engines(machine.system, devices=AMD_CARDS)[0]
    assert [match.name for match in chosen.matches] == [None, None]
    assert "which is not known" in chosen.matches[0].how


def test_a_card_that_the_build_cannot_use_is_found_out_by_asking_for_it(machine: Machine) -> None:
    machine.program("llama-server", CUDA.replace("GPU-0 GPU-1", "GPU-1"))
    server = find_engines(machine.system, devices=CARDS)[0]
    assert [match.name for match in server.matches] == [None, "CUDA0"]
    assert server.matches[1].visible == ("CUDA_VISIBLE_DEVICES=GPU-1",)
    (notice,) = unmatched_notices(CARDS, [server])
    assert (notice.code, notice.device_id) == ("device-unmatched", "nvidia-0")
    assert "nothing is placed on it" in notice.message


def test_a_program_that_prints_without_end_takes_no_memory_and_no_time(machine: Machine) -> None:
    machine.program("llama-server", "exec yes")
    server = find_engines(machine.system)[0]
    assert "it prints without end" in (server.problem or "")


def test_what_a_program_leaves_running_ends_with_the_question(machine: Machine) -> None:
    machine.program("slow", "echo first; sleep 77 & echo second; wait")
    answer = machine.system.answer(["slow"], timeout_s=0.5)
    assert (answer.text, answer.exit_code) == ("first\nsecond", None)
    assert "did not answer within 0.5 s" in (answer.failure or "")
    assert not [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "77"]]


def test_a_program_that_cannot_run_says_why(machine: Machine) -> None:
    machine.program("llama-server", "echo error while loading shared libraries: libcudart.so.13 >&2; exit 127")
    server = find_engines(machine.system)[0]
    assert "libcudart.so.13" in (server.problem or "")
    assert [notice.code for notice in unmatched_notices((), [server])] == ["engine-unusable"]


@pytest.mark.parametrize(
    ("value", "hidden"),
    [
        (None, []),
        ("0,1", []),
        ("1", ["nvidia-0"]),
        ("GPU-1", ["nvidia-0"]),
        ("", ["nvidia-0", "nvidia-1"]),
        ("-1", ["nvidia-0", "nvidia-1"]),
        ("0,7,1", ["nvidia-1"]),
        ("GPU-", ["nvidia-0", "nvidia-1"]),
    ],
)
def test_cards_that_cuda_visible_devices_hides_are_left_alone(value: str | None, hidden: list[str]) -> None:
    other = Device("amd-0", "amd", "AMD Radeon RX 6800 XT", "discrete", 1, 1)
    seen = left_alone((*CARDS, other), {} if value is None else {"CUDA_VISIBLE_DEVICES": value})
    assert [device.id for device in seen if device.excluded] == hidden


def test_a_gpu_that_no_driver_tells_of_is_a_device_all_the_same(machine: Machine) -> None:
    machine.program(
        "llama-server",
        "[ \"$1\" = --version ] && echo 'version: 1 (x)'; "
        "echo 'Available devices:'; "
        "echo '  Vulkan0: Microsoft Direct3D12 (AMD Radeon RX 6800 XT) (16128 MiB, 15000 MiB free)'",
    )
    engines = find_engines(machine.system)
    found = devices_of_engines((), engines)
    assert [(device.id, device.usable) for device in found.devices] == [("amd-0", True)]
    assert [notice.code for notice in found.notices] == ["device-from-engine"]
