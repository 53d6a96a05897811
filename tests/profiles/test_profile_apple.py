from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from profiles.counters.apple import AppleCounters
from profiles.probe.apple import metal_working_set_bytes, probe_apple
from profiles.probe.host import Memory

if TYPE_CHECKING:
    from profiles.probe.system import System
    from tests.profiles.conftest import Machine

GIB = 1 << 30
RAM = Memory(64 * GIB, 40 * GIB, None, 0, 0)


def mac(machine: Machine, chip: str = "Apple M4 Max", wired_mb: int | None = 0, memory: int = 64 * GIB) -> System:
    wired = f"echo {wired_mb}" if wired_mb is not None else "exit 1"
    machine.program(
        "sysctl",
        f'case "$2" in machdep.cpu.brand_string) echo "{chip}";; hw.memsize) echo {memory};; '
        f"iogpu.wired_limit_mb) {wired};; *) exit 1;; esac",
    )
    return replace(machine.system, platform="darwin")


def test_metal_recommends_how_much_the_gpu_may_take(machine: Machine) -> None:
    found = probe_apple(mac(machine), RAM, working_set=lambda: 48 * GIB)
    (device,) = found.devices
    assert found.notices == ()
    assert (device.id, device.name, device.kind) == ("apple-0", "Apple M4 Max", "unified")
    assert (device.memory_total_bytes, device.memory_free_bytes) == (48 * GIB, 40 * GIB)
    assert device.bandwidth_bytes_per_s == 546e9
    assert device.driver == "Metal (Metal's recommended working set)"


def test_the_owner_may_have_raised_the_limit(machine: Machine) -> None:
    (device,) = probe_apple(mac(machine, wired_mb=57344), RAM, working_set=lambda: 48 * GIB).devices
    assert device.memory_total_bytes == 56 * GIB


def test_memory_tells_the_binned_chip_from_the_full_one(machine: Machine) -> None:
    (device,) = probe_apple(mac(machine, memory=36 * GIB), RAM, working_set=lambda: 27 * GIB).devices
    assert device.bandwidth_bytes_per_s == 410e9


def test_without_either_nothing_is_placed_there(machine: Machine) -> None:
    found = probe_apple(mac(machine, wired_mb=None), RAM, working_set=lambda: None)
    assert [notice.code for notice in found.notices] == ["apple-working-set-unknown"]
    assert not found.devices[0].usable


def test_an_intel_mac_and_any_other_system_have_none(machine: Machine) -> None:
    assert probe_apple(mac(machine, chip="Intel(R) Core(TM) i9"), RAM).devices == ()
    assert probe_apple(machine.system, RAM).devices == ()
    assert metal_working_set_bytes() is None or metal_working_set_bytes()


def test_what_the_gpu_holds_is_the_whole_devices(machine: Machine) -> None:
    machine.program("ioreg", f"""echo '"PerformanceStatistics" = {{"In use system memory"={5 * GIB},"x"=1}}'""")
    counters = AppleCounters(machine.system)
    memory = counters.memory([1])
    assert memory.used_bytes == 5 * GIB
    assert memory.tree_bytes is None
    assert memory.tree_refused is not None
    assert counters.state().refused["energy_j"].endswith("(powermetrics)")
