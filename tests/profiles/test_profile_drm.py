from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from profiles.counters.drm import DrmCounters
from profiles.drm import DrmClients
from profiles.probe.amd import probe_amd
from profiles.probe.host import Memory
from profiles.probe.intel import probe_intel
from profiles.probe.reach import within_reach

if TYPE_CHECKING:
    from pathlib import Path

    from tests.profiles.conftest import Machine

GIB = 1 << 30
MIB = 1 << 20
RAM = Memory(64 * GIB, 50 * GIB, None, 0, 0)
CARD_METRICS, APU_METRICS = bytes([200, 0, 1, 3]), bytes([200, 0, 3, 0])
NAMES = (
    "# ids\n744C,\tC8,\tAMD Radeon RX 7900 XTX\n744C,\tCC,\tAMD Radeon RX 7900 XT\n150E,\tC1,\tAMD Radeon 890M Graphics"
)


def amd_card(machine: Machine, number: int = 0, **files: Any) -> Path:
    folder = f"sys/class/drm/card{number}/device"
    machine.write(
        {
            f"{folder}/{name}": content
            for name, content in {
                "vendor": "0x1002",
                "device": "0x744c",
                "revision": "0xc8",
                "uevent": f"DRIVER=amdgpu\nPCI_SLOT_NAME=0000:0{number + 3}:00.0",
                "drm/renderD128/dev": "226:128",
                "mem_info_vram_total": 24 * GIB - 16 * MIB,
                "mem_info_vram_used": GIB,
                "mem_info_gtt_total": 32 * GIB,
                "mem_info_gtt_used": 20 * MIB,
                "gpu_metrics": CARD_METRICS,
                "hwmon/hwmon4/name": "amdgpu",
                "hwmon/hwmon4/power1_average": 312_000_000,
                "hwmon/hwmon4/power1_cap": 339_000_000,
                "hwmon/hwmon4/freq1_input": 2_400_000_000,
                "hwmon/hwmon4/freq2_input": 1_249_000_000,
                "hwmon/hwmon4/temp1_input": 61000,
                "hwmon/hwmon4/temp2_input": 78000,
                **files,
            }.items()
            if content is not None
        }
    )
    machine.write({"usr/share/libdrm/amdgpu.ids": NAMES, "proc/sys/kernel/osrelease": "6.12.0"})
    machine.write({"sys/class/drm/version": "drm 1.1.0", f"sys/class/drm/card{number}-DP-1/status": "connected"})
    return machine.root / folder


def test_a_card_with_memory_of_its_own(machine: Machine) -> None:
    folder = amd_card(machine)
    node = "simd_count 192\ngfx_target_version 110000\ndrm_render_minor 128"
    machine.write({"sys/class/kfd/kfd/topology/nodes/1/properties": node})
    found = probe_amd(machine.system, RAM)
    (device,) = found.devices
    assert found.notices == ()
    assert (device.id, device.name, device.kind) == ("amd-0", "AMD Radeon RX 7900 XTX", "discrete")
    assert device.memory_total_bytes == 24 * GIB - 16 * MIB
    assert device.memory_free_bytes == 23 * GIB - 16 * MIB
    assert device.bandwidth_bytes_per_s == 960e9
    assert device.driver == "amdgpu (kernel 6.12.0)"
    assert device.compute_capability == "gfx1100"
    assert device.pci_id == "0000:03:00.0"
    assert device.power_limit_w == 339.0
    assert device.sysfs_path == str(folder)
    assert device.processes == ()


@pytest.mark.parametrize(
    ("number", "uuid"),
    [("5ee3ab1b59d2a9c4", "GPU-5ee3ab1b59d2a9c4"), ("0000000000000000", None), ("", None), ("../../x", None)],
)
def test_rocm_knows_a_card_by_its_number(machine: Machine, number: str, uuid: str | None) -> None:
    amd_card(machine, unique_id=number)
    (device,) = probe_amd(machine.system, RAM).devices
    assert device.uuid == uuid


def test_a_card_that_was_not_passed_into_the_container_is_left_alone(machine: Machine) -> None:
    amd_card(machine)
    devices = probe_amd(machine.system, RAM).devices
    assert within_reach(machine.system, devices).devices == devices, "a machine without /dev is not judged"
    machine.write({"dev/null": ""})
    (device,) = within_reach(machine.system, devices).devices
    assert "renderD128 is not here" in (device.excluded or "")
    machine.write({"dev/dri/renderD128": ""})
    assert within_reach(machine.system, devices).devices == devices


def test_a_card_that_may_not_be_opened_is_said_with_the_command(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    amd_card(machine)
    machine.write({"dev/dri/renderD128": ""})
    monkeypatch.setattr("os.access", lambda *_: False)
    (notice,) = within_reach(machine.system, probe_amd(machine.system, RAM).devices).notices
    assert "usermod" in notice.message


def test_the_processes_on_a_card_are_listed_with_what_they_hold(machine: Machine) -> None:
    amd_card(machine)
    client(machine, 100, 5, AMD_CLIENT.format(client=1, pdev="0000:03:00.0", vram=2048, gtt=1024))
    machine.write({"proc/100/comm": "Xorg"})
    client(machine, 101, 5, "drm-pdev: 0000:09:00.0\ndrm-client-id: 7")
    (device,) = probe_amd(machine.system, RAM).devices
    ((holder,)) = device.processes
    assert (holder.pid, holder.name, holder.memory_bytes) == (100, "Xorg", (2048 + 1024 + 5) << 10)


def test_an_apu_has_its_carve_out_and_what_it_may_map_of_the_ram(machine: Machine) -> None:
    amd_card(
        machine,
        device="0x150e",
        revision="0xc1",
        mem_info_vram_total=512 * MIB,
        mem_info_vram_used=112 * MIB,
        mem_info_gtt_total=32 * GIB,
        mem_info_gtt_used=2 * GIB,
        gpu_metrics=APU_METRICS,
    )
    found = probe_amd(machine.system, RAM)
    (device,) = found.devices
    assert (device.name, device.kind) == ("AMD Radeon 890M Graphics", "unified")
    assert device.memory_total_bytes == 32 * GIB + 512 * MIB
    assert device.memory_free_bytes == 30 * GIB + 400 * MIB
    assert (device.vram_total_bytes, device.gtt_total_bytes) == (512 * MIB, 32 * GIB)
    assert device.bandwidth_source is not None
    assert "at most" in device.bandwidth_source
    # GTT is the machine's RAM: what is not free there cannot be mapped.
    (device,) = probe_amd(machine.system, Memory(64 * GIB, 3 * GIB, None, 0, 0)).devices
    assert device.memory_free_bytes == 3 * GIB + 400 * MIB


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"mem_info_vram_used": 30 * GIB}, "amd-memory-implausible"),
        ({"mem_info_vram_total": None}, "amd-memory-unknown"),
        ({"mem_info_vram_total": 0}, "amd-memory-implausible"),
        ({"mem_info_vram_total": "junk"}, "amd-memory-unknown"),
    ],
)
def test_memory_that_cannot_be_is_not_believed(machine: Machine, files: dict[str, Any], code: str) -> None:
    amd_card(machine, **files)
    found = probe_amd(machine.system, RAM)
    assert code in [notice.code for notice in found.notices]
    assert not found.devices[0].usable


def test_a_gpu_that_nobody_can_name_counts_by_its_vram_alone(machine: Machine) -> None:
    amd_card(machine, device="0xffff", gpu_metrics=None)
    found = probe_amd(machine.system, RAM)
    assert [notice.code for notice in found.notices] == ["amd-name-unknown", "amd-kind-unknown", "bandwidth-unknown"]
    assert found.devices[0].name == "AMD GPU ffff"
    assert found.devices[0].memory_total_bytes == 24 * GIB - 16 * MIB


def test_two_vendors_in_one_machine(machine: Machine) -> None:
    amd_card(machine, number=1)
    arc(machine, number=0)
    assert [device.id for device in probe_amd(machine.system, RAM).devices] == ["amd-0"]
    assert [device.id for device in probe_intel(machine.system).devices] == ["intel-0"]


def test_no_gpus_at_all(machine: Machine) -> None:
    assert probe_amd(machine.system, RAM).devices == ()
    assert probe_intel(machine.system).devices == ()


def arc(machine: Machine, number: int = 0, driver: str = "xe", device: str = "0xe20b", **files: Any) -> Path:
    folder = f"sys/class/drm/card{number}/device"
    machine.write(
        {
            f"{folder}/{name}": content
            for name, content in {
                "vendor": "0x8086",
                "device": device,
                "uevent": f"DRIVER={driver}\nPCI_SLOT_NAME=0000:04:00.0",
                "tile0/gt0/freq0/act_freq": 2850,
                "tile0/gt0/freq0/throttle/status": 1,
                "tile0/gt0/freq0/throttle/reason_pl1": 1,
                "tile0/gt0/freq0/throttle/reason_thermal": 0,
                "hwmon/hwmon2/energy1_input": 5_000_000,
                "hwmon/hwmon2/temp2_input": 55000,
                **files,
            }.items()
        }
    )
    machine.write({"proc/sys/kernel/osrelease": "6.14.0"})
    return machine.root / folder


def test_an_arc_card_is_known_but_not_how_much_of_it_is_free(machine: Machine) -> None:
    arc(machine)
    found = probe_intel(machine.system)
    (device,) = found.devices
    assert (device.name, device.kind) == ("Intel Arc B580 Graphics", "discrete")
    assert device.memory_total_bytes == 12 * GIB
    assert device.memory_free_bytes is None
    assert not device.usable
    assert device.bandwidth_bytes_per_s == 456e9
    assert device.driver == "xe (kernel 6.14.0)"
    assert [notice.code for notice in found.notices] == ["intel-memory-unknown"]
    assert "[device.intel-0] memory" in found.notices[0].message


@pytest.mark.parametrize(("window", "memory"), [(16 * GIB, 16 * GIB), (8 * GIB, 8 * GIB), (256 * MIB, None)])
def test_the_window_on_the_bus_tells_the_two_a770_apart(machine: Machine, window: int, memory: int | None) -> None:
    base = 0x6000000000
    regions = f"0x0 0x0 0x0\n0x0 0x0 0x0\n{base:#x} {base + window - 1:#x} 0x14220c"
    arc(machine, driver="i915", device="0x56a0", resource=regions)
    assert probe_intel(machine.system).devices[0].memory_total_bytes == memory


def test_graphics_inside_a_processor_share_the_ram(machine: Machine) -> None:
    arc(machine, driver="i915", device="0x46a6")
    (device,) = probe_intel(machine.system).devices
    assert (device.kind, device.memory_total_bytes, device.usable) == ("unified", None, False)


def client(machine: Machine, pid: int, fd: int, text: str, target: str = "/dev/dri/renderD128") -> None:
    machine.link(f"proc/{pid}/fd/{fd}", target)
    machine.write({f"proc/{pid}/fdinfo/{fd}": text})


AMD_CLIENT = """pos:\t0
drm-driver:\tamdgpu
drm-client-id:\t{client}
drm-pdev:\t{pdev}
drm-total-vram:\t9999 KiB
drm-resident-vram:\t{vram} KiB
drm-memory-vram:\t{vram} KiB
drm-resident-gtt:\t{gtt} KiB
drm-resident-cpu:\t5 KiB"""


def test_a_client_that_is_open_twice_or_inherited_counts_once(machine: Machine) -> None:
    pdev = "0000:03:00.0"
    client(machine, 100, 5, AMD_CLIENT.format(client=1, pdev=pdev, vram=5120, gtt=25 * 1024 * 1024))
    client(machine, 100, 6, AMD_CLIENT.format(client=1, pdev=pdev, vram=5120, gtt=25 * 1024 * 1024))
    client(machine, 101, 5, AMD_CLIENT.format(client=1, pdev=pdev, vram=5120, gtt=25 * 1024 * 1024))
    client(machine, 101, 7, AMD_CLIENT.format(client=2, pdev=pdev, vram=1024, gtt=0))
    client(machine, 101, 8, AMD_CLIENT.format(client=3, pdev="0000:09:00.0", vram=7777, gtt=0))
    client(machine, 101, 9, "not a gpu", target="/tmp/file")
    client(machine, 999, 5, AMD_CLIENT.format(client=9, pdev=pdev, vram=8888, gtt=0))
    clients = DrmClients(machine.system, pdev)
    clients.refresh([100, 101])
    assert clients.held_bytes([100, 101]) == {"vram": 6144 << 10, "gtt": 25 * GIB, "cpu": 5 * 2 << 10}
    assert clients.held_bytes([555]) is None


def test_the_counters_of_an_apu_while_a_model_runs(machine: Machine) -> None:
    folder = amd_card(machine)
    client(machine, 100, 5, AMD_CLIENT.format(client=1, pdev="0000:03:00.0", vram=5120, gtt=25 * 1024 * 1024))
    counters = DrmCounters(folder, "0000:03:00.0", machine.system)
    memory = counters.memory([100])
    assert (memory.tree_bytes, memory.tree_gtt_bytes) == (5 * MIB, 25 * GIB)
    assert (memory.used_bytes, memory.used_gtt_bytes) == (GIB, 20 * MIB)
    assert memory.source == "drm fdinfo"
    state = counters.state()
    assert state.power_w == 312.0
    assert (state.clock_core_hz, state.clock_memory_hz) == (2.4e9, 1.249e9)
    assert state.temperature_c == 78.0
    assert state.energy_j is None
    assert state.throttle_reasons is None
    assert set(state.refused) == {"energy_j", "throttle_reasons"}


def test_without_the_process_the_whole_device_is_all_there_is(machine: Machine) -> None:
    memory = DrmCounters(amd_card(machine), "0000:03:00.0", machine.system).memory([100])
    assert memory.tree_bytes is None
    assert memory.tree_refused is not None
    assert memory.used_bytes == GIB


def test_the_counters_of_xe(machine: Machine) -> None:
    folder = arc(machine)
    held = "drm-resident-vram0: 9 GiB\ndrm-total-vram0: 10 GiB\ndrm-resident-system: 3 MiB"
    client(machine, 100, 5, f"drm-client-id: 4\ndrm-pdev: 0000:04:00.0\n{held}")
    counters = DrmCounters(folder, "0000:04:00.0", machine.system)
    memory = counters.memory([100])
    assert (memory.tree_bytes, memory.tree_gtt_bytes) == (9 * GIB, 3 * MIB)
    state = counters.state()
    assert state.energy_j == 5.0
    assert state.clock_core_hz == 2.85e9
    assert state.throttle_reasons == ("pl1",)
