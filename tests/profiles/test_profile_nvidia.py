from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from profiles.probe.nvidia import probe_nvidia
from profiles.probe.system import System
from tests.profiles.nvml.build import CARDS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.profiles.conftest import FakeNvml, Machine

RTX_5090, SIXTEEN_GB, GB10 = CARDS["rtx-5090"], CARDS["rtx-5060-ti"], CARDS["gb10"]


def gpus(profile: dict[str, Any]) -> list[dict[str, Any]]:
    return [device for device in profile["devices"] if device["kind"] != "cpu"]


def codes(profile: dict[str, Any]) -> list[str]:
    return [notice["code"] for notice in profile["warnings"] if not notice["code"].startswith(("governor", "platform"))]


def test_two_good_cards(nvml: FakeNvml) -> None:
    nvml.show(RTX_5090 | {"compute.0": f"{os.getpid()} 104857600", "graphics.0": "4194304 na"}, SIXTEEN_GB)
    profile = nvml.probe()
    big, small = gpus(profile)
    assert codes(profile) == []
    assert (big["id"], big["name"], big["kind"]) == ("nvidia-0", "NVIDIA GeForce RTX 5090", "discrete")
    assert big["memory_total_bytes"] == 32607 << 20
    assert big["memory_free_bytes"] == (32607 - 512) << 20
    assert big["bandwidth_bytes_per_s"] == pytest.approx(1792e9, rel=0.01)
    assert big["bandwidth_source"] == "nvml: memory clock x bus width"
    assert (big["driver"], big["compute_capability"]) == ("575.57.08", "12.0")
    assert (big["pci_id"], big["uuid"]) == ("0000:01:00.0", RTX_5090["uuid"])
    assert big["power_limit_w"] == 575.0
    assert big["processes"][0]["pid"] == os.getpid()
    assert big["processes"][0]["memory_bytes"] == 104857600
    assert big["processes"][0]["name"] is not None
    assert big["processes"][1] == {"pid": 4194304, "name": None, "memory_bytes": None}
    assert (small["id"], small["memory_total_bytes"]) == ("nvidia-1", 16311 << 20)


def test_a_compute_and_a_graphics_context_of_one_process_are_not_added_up(nvml: FakeNvml) -> None:
    nvml.show(RTX_5090 | {"compute.0": "77 5000", "graphics.0": "77 3000"})
    (device,) = gpus(nvml.probe())
    assert [(each["pid"], each["memory_bytes"]) for each in device["processes"]] == [(77, 5000)]


def test_a_chip_that_shares_the_ram_and_refuses_to_tell(nvml: FakeNvml) -> None:
    nvml.show(GB10)
    profile = nvml.probe()
    (device,) = gpus(profile)
    assert device["kind"] == "unified"
    assert device["memory_total_bytes"] == profile["ram_total_bytes"]
    assert device["memory_free_bytes"] == profile["ram_free_bytes"]
    assert device["bandwidth_bytes_per_s"] == 273e9
    assert device["bandwidth_source"].startswith("catalogue")
    assert codes(profile) == []


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        ({"total": 0}, "nvml-memory-implausible"),
        ({"used": 64 << 30, "free": 1 << 30}, "nvml-memory-implausible"),
        ({"used": 0, "free": 64 << 30}, "nvml-memory-implausible"),
        ({"error.nvmlDeviceGetMemoryInfo": 3}, "nvml-memory-unknown"),
        ({"error.nvmlDeviceGetMemoryInfo": 999}, "nvml-memory-unknown"),
        ({"error.nvmlDeviceGetMemoryInfo": 15}, "nvml-gpu-lost"),
    ],
)
def test_a_card_whose_memory_is_not_known_is_listed_and_never_used(
    nvml: FakeNvml, lie: dict[str, int], code: str
) -> None:
    nvml.show(RTX_5090 | lie, SIXTEEN_GB)
    profile = nvml.probe()
    broken, good = gpus(profile)
    assert codes(profile) == [code]
    assert profile["warnings"][-1]["device_id"] == "nvidia-0"
    assert broken["name"] == "NVIDIA GeForce RTX 5090"
    assert broken["memory_total_bytes"] is None
    assert broken["memory_free_bytes"] is None
    assert good["memory_total_bytes"] == 16311 << 20


def test_a_card_that_is_gone_does_not_take_the_others_along(nvml: FakeNvml) -> None:
    nvml.show(RTX_5090 | {"error": 15}, SIXTEEN_GB)
    profile = nvml.probe()
    assert [device["id"] for device in gpus(profile)] == ["nvidia-1"]
    (notice,) = [notice for notice in profile["warnings"] if notice["code"] == "nvml-gpu-lost"]
    assert "dmesg" in notice["message"]


def test_an_old_card_answers_little_and_is_known_from_the_catalogue(nvml: FakeNvml) -> None:
    nvml.show({"name": "Tesla P40", "total": 23040 << 20, "used": 0, "pci": "00000000:01:00.0", "uuid": "GPU-p40"})
    profile = nvml.probe()
    (device,) = gpus(profile)
    assert codes(profile) == []
    assert device["power_limit_w"] is None
    assert device["compute_capability"] is None
    assert device["bandwidth_bytes_per_s"] == 346e9


def test_a_card_that_nobody_knows_has_no_bandwidth(nvml: FakeNvml) -> None:
    nvml.show({"name": "NVIDIA RTX 9999", "total": 8 << 30, "used": 0})
    profile = nvml.probe()
    assert codes(profile) == ["bandwidth-unknown"]
    assert gpus(profile)[0]["bandwidth_bytes_per_s"] is None


def test_a_bus_width_that_cannot_be_is_named(nvml: FakeNvml) -> None:
    nvml.show(RTX_5090 | {"bus_bits": 64})
    assert codes(nvml.probe()) == ["bandwidth-disagrees"]


MIG = RTX_5090 | {
    "name": "NVIDIA A100-SXM4-80GB",
    "total": 80 << 30,
    "mig": 1,
    "mig_places": 7,
    "mig.2.name": "NVIDIA A100-SXM4-80GB MIG 3g.40gb",
    "mig.2.uuid": "MIG-aaaa",
    "mig.2.total": 40 << 30,
    "mig.2.used": 1 << 30,
}


def test_mig_instances_are_the_devices_and_the_whole_is_not(nvml: FakeNvml) -> None:
    nvml.show(MIG)
    profile = nvml.probe()
    (device,) = gpus(profile)
    assert (device["id"], device["uuid"]) == ("nvidia-0-mig-2", "MIG-aaaa")
    assert device["memory_free_bytes"] == 39 << 30
    assert device["bandwidth_bytes_per_s"] is None
    assert codes(profile) == ["bandwidth-unknown"]


def test_mig_mode_without_an_instance_has_nothing_to_run_on(nvml: FakeNvml) -> None:
    nvml.show(RTX_5090 | {"mig": 1, "mig_places": 7})
    profile = nvml.probe()
    assert gpus(profile) == []
    assert codes(profile) == ["nvml-mig-empty"]


@pytest.mark.parametrize(
    ("number", "code", "cure"),
    [
        (9, "nvml-driver-not-loaded", "modprobe nvidia"),
        (4, "nvml-no-permission", "/dev/nvidiactl"),
        (18, "nvml-version-mismatch", "reboot"),
        (999, "nvml-failed", "does not start"),
    ],
)
def test_a_driver_that_does_not_start_is_named_with_its_cure(nvml: FakeNvml, number: int, code: str, cure: str) -> None:
    nvml.show(RTX_5090, **{"error.nvmlInitWithFlags": number})
    profile = nvml.probe()
    assert gpus(profile) == []
    assert codes(profile) == [code]
    assert cure in profile["warnings"][-1]["message"]
    assert profile["ram_total_bytes"] is not None


def test_a_driver_that_fails_to_count_is_no_end(nvml: FakeNvml) -> None:
    nvml.show(RTX_5090, **{"error.nvmlDeviceGetCount_v2": 999})
    assert codes(nvml.probe()) == ["nvml-failed"]


def test_a_library_that_is_no_library(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("not an ELF file")
    script = (
        "import json; from profiles.override import Override; from profiles.probe import probe_node;"
        "print(json.dumps([n.code for n in probe_node(engines=False, override=Override()).warnings]))"
    )
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert not [code for code in json.loads(done.stdout) if code.endswith("-failed")]


def test_a_card_on_the_bus_without_its_driver_is_named(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    from profiles import nvml as session
    from profiles.probe.host import memory

    def missing() -> None:
        raise session.NvmlUnavailable("nvml-missing", "no NVIDIA driver library")

    monkeypatch.setattr(session, "session", missing)
    ram = memory(System())
    assert probe_nvidia(machine.system, ram).notices == ()
    folder = "sys/bus/pci/devices/0000:01:00.0"
    machine.write({f"{folder}/vendor": "0x10de", f"{folder}/class": "0x030000"})
    (notice,) = probe_nvidia(machine.system, ram).notices
    assert notice.code == "nvml-missing"
    assert "0000:01:00.0" in notice.message
