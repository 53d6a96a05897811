from __future__ import annotations

from typing import TYPE_CHECKING

from profiles.override import Override
from profiles.probe import probe_node
from profiles.probe.engines import Wanted, fill_from_engines, find_engines, listed_devices, matched_anew
from profiles.probe.system import System
from profiles.types import Device, EngineDevice, FoundEngine

if TYPE_CHECKING:
    from tests.profiles.conftest import Machine

MIB = 1 << 20
LIST = """ggml_cuda_init: found 1 CUDA devices:
  Device 0: NVIDIA GeForce RTX 5090, compute capability 12.0, VMM: yes
Available devices:
  CUDA0: NVIDIA GeForce RTX 5090 (32607 MiB, 31992 MiB free)
  Vulkan0: Intel(R) Arc(tm) B580 Graphics (BMG G21) (12216 MiB, 11100 MiB free)
"""


def test_what_llama_server_says_of_itself(machine: Machine) -> None:
    machine.program(
        "llama-server",
        f'case "$1" in --version) printf "version: 6710 (abc1234)\\nbuilt with GNU 12.2.0 for x86_64\\n" >&2;; '
        f"--list-devices) cat <<'END'\n{LIST}END\n;; *) exit 1;; esac",
    )
    (server, *_) = find_engines(machine.system)
    assert (server.kind, server.build) == ("llama-server", "6710 (abc1234)")
    assert [device.name for device in server.devices] == ["CUDA0", "Vulkan0"]
    assert server.devices[0] == EngineDevice("CUDA0", "NVIDIA GeForce RTX 5090", 32607 * MIB, 31992 * MIB)
    assert server.devices[1].description == "Intel(R) Arc(tm) B580 Graphics (BMG G21)"


def test_a_server_without_a_gpu_lists_none() -> None:
    assert listed_devices("Available devices:\n  (none)\n") == ()


def test_a_server_that_cannot_start_is_still_named(machine: Machine) -> None:
    machine.program("llama-server", "echo error while loading shared libraries: libcudart.so.13 >&2; exit 127")
    (server, *_) = find_engines(machine.system)
    assert (server.kind, server.build, server.devices) == ("llama-server", None, ())


def test_the_owner_says_where_the_server_is(machine: Machine) -> None:
    path = machine.program("my-server", "echo version: 1 '(x)'")
    (server, *_) = find_engines(machine.system, Wanted(of_owner=str(path)))
    assert (server.path, server.build) == (str(path), "1 (x)")


def test_ollama_by_its_version(machine: Machine) -> None:
    machine.program(
        "ollama", "echo 'Warning: could not connect to a running Ollama instance'; echo 'client version is 0.12.3'"
    )
    found = {engine.kind: engine for engine in find_engines(machine.system)}
    assert found["ollama"].build == "0.12.3"
    assert "llama-server" not in found


def test_the_embedded_engine_answers_for_itself() -> None:
    found = {engine.kind: engine for engine in find_engines(System())}
    asked = found["embedded"]
    assert asked.build is not None
    assert asked.build.startswith("xllamacpp 20")
    assert all("CPU" not in device.name for device in asked.devices)
    unasked = {engine.kind: engine for engine in find_engines(System(), ask=False)}
    assert unasked["embedded"].build == asked.build


ARC = Device("intel-0", "intel", "Intel Arc B580 Graphics", "discrete", memory_total_bytes=12 << 30)
SERVER = FoundEngine("llama-server", "/x", "1", listed_devices(LIST))


def test_an_engine_tells_what_a_driver_does_not() -> None:
    devices, notices = fill_from_engines((ARC,), matched_anew((SERVER,), (ARC,)))
    assert (devices[0].memory_total_bytes, devices[0].memory_free_bytes) == (12216 * MIB, 11100 * MIB)
    assert devices[0].usable
    assert [notice.code for notice in notices] == ["memory-from-engine"]


def test_where_two_could_be_meant_nothing_is_taken_over() -> None:
    twins = (ARC, Device("intel-1", "intel", "Intel graphics 46a6", "unified"))
    assert fill_from_engines(twins, matched_anew((SERVER,), twins))[0][1] == twins[1]
    known = (Device("intel-0", "intel", "x", "discrete", memory_total_bytes=5, memory_free_bytes=4),)
    assert fill_from_engines(known, matched_anew((SERVER,), known)) == (known, ())


def test_a_filled_device_is_no_longer_warned_about(machine: Machine) -> None:
    intel_only = LIST.replace("  CUDA0: NVIDIA GeForce RTX 5090 (32607 MiB, 31992 MiB free)\n", "")
    machine.program(
        "llama-server",
        f"[ \"$1\" = --list-devices ] && cat <<'END'\n{intel_only}END\n[ \"$1\" = --version ] && echo 'version: 1 (x)'",
    )
    folder = "sys/class/drm/card0/device"
    machine.write(
        {f"{folder}/vendor": "0x8086", f"{folder}/device": "0xe20b", f"{folder}/uevent": "DRIVER=xe\nPCI_SLOT_NAME=a"}
    )
    profile = probe_node(system=machine.system, override=Override())
    warned = [notice for notice in profile.warnings if notice.device_id == "intel-0"]
    codes = [notice.code for notice in warned if "embedded" not in notice.message]
    assert codes == ["memory-from-engine"]
    assert profile.device("intel-0").usable
