from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from profiles.counters.cpu import CpuCounters
from profiles.counters.gpu import Guarded, Unmeasured, device_busy, open_counters
from profiles.sampler import take_baseline
from profiles.types import Device

if TYPE_CHECKING:
    from pathlib import Path

    from profiles.counters.readings import GpuMemory, GpuState
    from tests.profiles.conftest import FakeNvml, Machine

GIB = 1 << 30

# A server that allocates on an RTX 5090 is a process of ours and a line in the library's file; each step is told by
# what the sampler returns, so nothing here waits for a clock.
WATCH = """
import json, pathlib, subprocess, sys
from profiles.override import Override
from profiles.probe import probe_node
from profiles.sampler import Sampler, take_baseline
from tests.profiles.nvml.build import CARDS, write

config, steps = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
cards = [CARDS[name] for name in json.loads(sys.argv[3])]
devices = [d for d in probe_node(engines=False, override=Override()).gpus]
with_baseline = json.loads(sys.argv[4])
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
windows = []
try:
    baseline = take_baseline(devices) if with_baseline else None
    with Sampler(child.pid, devices, baseline=baseline) as sampler:
        for step in steps:
            text = json.dumps(step).replace("PID", str(child.pid))
            write(config, [card | more for card, more in zip(cards, json.loads(text))])
            windows.append(sampler.reset("prefill").to_dict())
finally:
    child.communicate(b"\\n")
print(json.dumps(windows))
"""


def watch(nvml: FakeNvml, *steps: list[dict[str, Any]], baseline: bool = True, cards: list[str] | None = None) -> Any:
    import json

    from tests.profiles.nvml.build import CARDS

    names = cards or ["rtx-5090"]
    nvml.show(*(CARDS[name] for name in names))
    arguments = (str(nvml.config), json.dumps(steps), json.dumps(names), json.dumps(baseline))
    return nvml.python(WATCH, *arguments)


def test_the_memory_of_the_tree_and_of_nobody_else(nvml: FakeNvml) -> None:
    load, job = watch(
        nvml,
        [{"used": 20 * GIB, "compute.0": f"PID {6 * GIB}", "compute.1": f"1 {9 * GIB}"}],
        [{"used": 21 * GIB, "compute.0": f"PID {7 * GIB}", "compute.1": f"1 {9 * GIB}"}],
    )
    assert load["peak_vram_bytes"] == 6 * GIB
    assert load["sources"]["peak_vram_bytes"] == "nvml, the process tree"
    assert job["peak_vram_bytes"] == 7 * GIB
    assert load["peak_gtt_bytes"] is None
    assert load["idle_power_w"] == 71.5


def test_a_driver_that_does_not_tell_is_the_device_minus_its_baseline_and_flagged(nvml: FakeNvml) -> None:
    (window,) = watch(nvml, [{"used": 8 * GIB + (512 << 20), "compute.0": "PID na"}])
    assert window["peak_vram_bytes"] == 8 * GIB
    assert (
        "minus its baseline (NVML does not tell the memory of a process here)" in window["sources"]["peak_vram_bytes"]
    )


def test_a_container_that_sees_foreign_pids_falls_back_as_well(nvml: FakeNvml) -> None:
    (window,) = watch(nvml, [{"used": 3 * GIB + (512 << 20), "compute.0": f"1 {2 * GIB}"}])
    assert window["peak_vram_bytes"] == 3 * GIB
    assert "a container" in window["sources"]["peak_vram_bytes"]


def test_without_a_baseline_there_is_nothing_to_subtract(nvml: FakeNvml) -> None:
    (window,) = watch(nvml, [{"used": 8 * GIB, "compute.0": "PID na"}], baseline=False)
    assert window["peak_vram_bytes"] is None
    assert "no baseline" in window["reasons"]["peak_vram_bytes"]
    assert window["idle_power_w"] is None


def test_a_share_larger_than_the_card_is_not_believed(nvml: FakeNvml) -> None:
    (window,) = watch(nvml, [{"used": 2 * GIB + (512 << 20), "compute.0": f"PID {90 * GIB}"}])
    assert window["peak_vram_bytes"] == 2 * GIB
    assert "more memory for the process than the device has" in window["sources"]["peak_vram_bytes"]


def test_a_card_that_is_lost_while_it_is_watched(nvml: FakeNvml) -> None:
    good, lost = watch(nvml, [{"used": 7 * GIB, "compute.0": f"PID {6 * GIB}"}], [{"error": 15}])
    assert good["peak_vram_bytes"] == 6 * GIB
    # The window began while the card was well; that level is known, the state at its end is not.
    assert lost["peak_vram_bytes"] == 6 * GIB
    assert lost["energy_j"] is None
    assert lost["peak_ram_bytes"] is not None


def test_several_cards_are_summed_and_one_unknown_makes_the_sum_unknown(nvml: FakeNvml) -> None:
    both: list[dict[str, Any]] = [
        {"used": 7 * GIB, "compute.0": f"PID {6 * GIB}"},
        {"used": 6 * GIB, "compute.0": f"PID {5 * GIB}", "celsius": 83, "throttle": "0x44"},
    ]
    half: list[dict[str, Any]] = [
        {"compute.0": f"PID {6 * GIB}"},
        {"error.nvmlDeviceGetComputeRunningProcesses_v3": 4, "total": 0},
    ]
    summed, after = watch(nvml, both, half, cards=["rtx-5090", "rtx-5060-ti"])
    assert summed["peak_vram_bytes"] == 11 * GIB
    assert summed["temperature_c"] == 83.0
    assert summed["throttle_reasons"] == ["power-cap", "thermal-hardware"]
    assert summed["clock_memory_hz"] == 14001e6
    assert after["peak_vram_bytes"] == 11 * GIB  # the second window still began with both


def test_a_chip_without_memory_info_still_tells_its_processes(nvml: FakeNvml) -> None:
    (window,) = watch(nvml, [{"compute.0": f"PID {20 * GIB}"}], cards=["gb10"])
    assert window["peak_vram_bytes"] == 20 * GIB
    assert window["reasons"]["clock_memory_hz"].startswith("NVML:")


def test_counters_that_break_are_not_asked_again_and_say_why() -> None:
    class Breaking:
        asked = 0

        def memory(self, pids: object) -> GpuMemory:
            self.asked += 1
            raise OSError("the bus is on fire")

        def state(self) -> GpuState:
            raise AssertionError("not reached: the device is unmeasured by then")

        def close(self) -> None:
            raise OSError("still on fire")

    breaking = Breaking()
    counters = Guarded(Device("gpu-0", "amd", "x", "discrete"), breaking)
    for _ in range(2):
        assert counters.memory((1,)).tree_refused == "gpu-0: OSError: the bus is on fire"
    assert breaking.asked == 1
    assert "the bus is on fire" in counters.state().refused["energy_j"]
    counters.close()


def test_a_device_that_is_gone_says_so_in_every_figure() -> None:
    gone = Device("amd-0", "amd", "Radeon", "discrete", sysfs_path="/nowhere", pci_id="0000:03:00.0")
    counters = open_counters(gone)
    assert isinstance(counters, Unmeasured)
    assert counters.memory((1,)).tree_refused == "amd-0: LookupError: /nowhere is not there any more"
    assert "not there any more" in counters.state().refused["energy_j"]
    baseline = take_baseline([gone])
    assert baseline.used_bytes == {}
    unknown = open_counters(Device("x", "unknown", "x", "discrete"))
    assert unknown.memory(()).tree_refused == "x: no counters are known for unknown devices"
    unknown.close()


def test_the_processor_s_own_counters(machine: Machine) -> None:
    rapl, cpus = "sys/class/powercap/intel-rapl:0", "sys/devices/system/cpu"
    machine.write(
        {
            f"{rapl}/energy_uj": 9_000_000,
            f"{rapl}/max_energy_range_uj": 10_000_000,
            "sys/class/powercap/intel-rapl:0:0/energy_uj": 1,
            f"{cpus}/cpufreq/policy0/scaling_cur_freq": 4_000_000,
            f"{cpus}/cpufreq/policy1/scaling_cur_freq": 2_000_000,
            "sys/class/hwmon/hwmon0/name": "k10temp",
            "sys/class/hwmon/hwmon0/temp1_input": 71500,
            "sys/class/hwmon/hwmon1/name": "nvme",
            "sys/class/hwmon/hwmon1/temp1_input": 99000,
            f"{cpus}/cpu0/thermal_throttle/package_throttle_count": 3,
        }
    )
    counters = CpuCounters(machine.system)
    first = counters.state()
    assert (first.energy_j, first.clock_core_hz, first.temperature_c) == (9.0, 3e9, 71.5)
    assert first.throttle_reasons == ()
    # The counter wraps around at its range, and the package throttles.
    machine.write({f"{rapl}/energy_uj": 500_000, f"{cpus}/cpu0/thermal_throttle/package_throttle_count": 4})
    second = counters.state()
    assert second.energy_j == pytest.approx(10.5)
    assert second.throttle_reasons == ("thermal",)
    assert counters.memory((1,)).tree_bytes is None


def test_a_processor_that_tells_nothing_says_why(machine: Machine) -> None:
    state = CpuCounters(machine.system).state()
    assert state.energy_j is None
    assert set(state.refused) == {
        "power_w", "energy_j", "clock_core_hz", "clock_memory_hz", "temperature_c", "throttle_reasons"
    }  # fmt: skip
    machine.write({"sys/class/powercap/intel-rapl:0/energy_uj": "not a number"})
    assert "root only" in CpuCounters(machine.system).state().refused["energy_j"]


BUSY = """
import json, pathlib, sys
from profiles.counters.gpu import device_busy
from profiles.override import Override
from profiles.probe import probe_node
from tests.profiles.nvml.build import CARDS, write

found = []
(card,) = [each for each in probe_node(engines=False, override=Override()).gpus]
for more in json.loads(sys.argv[2]):
    write(pathlib.Path(sys.argv[1]), [CARDS["rtx-5090"] | more])
    found.append(device_busy(card))
print(json.dumps(found))
"""


def test_whether_a_card_computes(nvml: FakeNvml) -> None:
    """A driver that does not tell is no card at rest: a stall is not concluded from it."""
    import json

    from tests.profiles.nvml.build import CARDS

    nvml.show(CARDS["rtx-5090"])
    steps = [{"gpu_percent": 97}, {"gpu_percent": 0}, {}]
    assert nvml.python(BUSY, str(nvml.config), json.dumps(steps)) == [True, False, None]


def test_whether_an_amd_card_computes(tmp_path: Path) -> None:
    card = Device(id="amd-0", vendor="amd", name="card", kind="discrete", sysfs_path=str(tmp_path))
    assert device_busy(card) is None
    for percent, busy in (("0", False), ("63", True)):
        (tmp_path / "gpu_busy_percent").write_text(percent + "\n")
        assert device_busy(card) is busy
