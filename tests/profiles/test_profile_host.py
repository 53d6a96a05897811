from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from profiles.override import Override
from profiles.probe import host, probe_node
from profiles.probe.bandwidth import _pass, measure_read_bandwidth
from profiles.probe.system import System
from profiles.probe.tools import find_tools

if TYPE_CHECKING:
    from tests.profiles.conftest import Machine

CPUS = "sys/devices/system/cpu/cpufreq"


def governors(machine: Machine, *names: str, driver: str = "acpi-cpufreq", preference: str | None = None) -> None:
    for number, name in enumerate(names):
        machine.write(
            {f"{CPUS}/policy{number}/scaling_governor": name, f"{CPUS}/policy{number}/scaling_driver": driver}
        )
        if preference is not None:
            machine.write({f"{CPUS}/policy{number}/energy_performance_preference": preference})


def test_a_virtual_machine_that_tells_no_governor_is_named(machine: Machine) -> None:
    state = host.power_state(machine.system)
    assert state.governor is None
    assert [notice.code for notice in state.notices] == ["governor-unknown"]


def test_full_speed_needs_no_word(machine: Machine) -> None:
    governors(machine, "performance", "performance")
    machine.write({"sys/firmware/acpi/platform_profile": "performance"})
    state = host.power_state(machine.system)
    assert (state.governor, state.platform_profile, state.notices) == ("performance", "performance", ())


def test_powersave_spoils_timings_and_says_so(machine: Machine) -> None:
    governors(machine, "powersave")
    machine.write({"sys/firmware/acpi/platform_profile": "low-power"})
    state = host.power_state(machine.system)
    assert [notice.code for notice in state.notices] == ["governor-powersave", "platform-profile-low-power"]
    assert "cpupower" in state.notices[0].message


def test_powersave_is_the_normal_name_of_a_self_scaling_driver(machine: Machine) -> None:
    governors(machine, "powersave", driver="amd-pstate-epp", preference="performance")
    state = host.power_state(machine.system)
    assert (state.governor, state.notices) == ("powersave/performance", ())
    governors(machine, "powersave", driver="amd-pstate-epp", preference="power")
    assert [notice.code for notice in host.power_state(machine.system).notices] == ["governor-power"]


def test_cores_that_differ_are_all_named(machine: Machine) -> None:
    governors(machine, "performance", "powersave")
    state = host.power_state(machine.system)
    assert state.governor == "performance+powersave"
    assert state.notices[0].code == "governor-powersave"


@pytest.mark.parametrize(
    ("cpuinfo", "model"),
    [
        (
            "processor : 0\nmodel name\t: AMD Ryzen AI 9  HX 370 w/ Radeon 890M\nprocessor : 1",
            "AMD Ryzen AI 9 HX 370 w/ Radeon 890M",
        ),
        ("processor : 0\nBogoMIPS : 108.00\nModel : Raspberry Pi 5 Model B", "Raspberry Pi 5 Model B"),
        ("", None),
    ],
)
def test_the_processor_by_its_name(machine: Machine, cpuinfo: str, model: str | None) -> None:
    machine.write({"proc/cpuinfo": cpuinfo})
    assert host.processor(machine.system).model == model


def test_a_mac_names_its_chip(machine: Machine) -> None:
    machine.program("sysctl", 'echo "Apple M4"')
    system = System(root=machine.root, search_path=str(machine.root / "bin"), platform="darwin")
    assert host.processor(system).model == "Apple M4"


def test_disk_room_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    there = host.disk_free_bytes(tmp_path)
    assert there is not None
    assert there > 0
    assert host.disk_free_bytes(tmp_path / "models" / "hub") == pytest.approx(there, rel=0.2)


def test_tools_by_the_names_they_go_by(machine: Machine) -> None:
    machine.program("chromium-browser", "echo Chromium 156.0.8078.73")
    machine.program("bwrap", "echo warning: something; echo bubblewrap 0.8.0 >&2")
    machine.program("go", "exit 3")
    tools = {tool.name: tool for tool in find_tools(machine.system)}
    assert tools["chromium"].version == "Chromium 156.0.8078.73"
    assert tools["chromium"].path.endswith("bin/chromium-browser")
    assert tools["bwrap"].version == "bubblewrap 0.8.0"
    assert tools["go"].version is None
    assert "node" not in tools
    assert all(tool.version is None for tool in find_tools(machine.system, versions=False))


def test_a_program_that_hangs_is_killed_with_its_children(machine: Machine, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    machine.program("hang", f"/bin/sleep 300 & echo $! > {pid_file}; wait")
    for patience_s in (0.3, 3.0, 20.0):  # a busy machine needs longer to come as far as the child
        assert machine.system.output(["hang"], timeout_s=patience_s) is None
        if pid_file.exists() and pid_file.read_text().strip():
            break
    child = Path(f"/proc/{pid_file.read_text().strip()}/stat")

    def is_gone() -> bool:
        try:
            return child.read_text().rsplit(")", 1)[1].split()[0] in "ZX"
        except OSError:
            return True

    # It was killed; that it is gone takes the kernel until it next runs, and nobody here can wait for a grandchild.
    deadline = time.monotonic() + 30
    while not is_gone():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_program_that_is_not_there_or_fails_answers_nothing(machine: Machine) -> None:
    machine.program("fails", "echo no >&2; exit 1")
    assert machine.system.output(["fails"]) is None
    assert machine.system.output(["missing"]) is None


def test_the_whole_profile_of_this_machine() -> None:
    profile = probe_node(models_dir=Path("/tmp"), engines=False, override=Override())
    assert profile.cpu is not None
    assert profile.cpu.usable
    assert profile.cpu.memory_total_bytes == profile.ram_total_bytes
    assert profile.cores_usable
    assert profile.disk_free_bytes
    assert profile.probed_at.endswith("+00:00")


def test_a_probe_that_fails_is_a_named_warning_and_the_rest_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("the files are on fire")

    monkeypatch.setattr(host, "memory", broken)
    monkeypatch.setattr("profiles.probe.amd.probe_amd", broken)
    monkeypatch.setattr("profiles.probe.find_tools", broken)
    profile = probe_node(engines=False, override=Override())
    failed = {notice.code: notice.message for notice in profile.warnings if notice.code.endswith("-failed")}
    assert set(failed) == {"ram-failed", "amd-failed", "tools-failed"}
    assert "RuntimeError: the files are on fire" in failed["ram-failed"]
    assert profile.ram_total_bytes is None
    assert profile.cpu is not None
    assert not profile.cpu.usable


def test_a_probe_that_hangs_is_a_named_warning_and_the_rest_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that never answers: the machine still says what else it has."""
    release = threading.Event()
    monkeypatch.setattr("profiles.probe.PROBE_S", 0.2)
    monkeypatch.setattr("profiles.probe.nvidia.probe_nvidia", lambda *_: release.wait(60))
    profile = probe_node(engines=False, override=Override())
    release.set()
    failed = {notice.code: notice.message for notice in profile.warnings if notice.code.endswith("-failed")}
    assert failed.keys() == {"nvidia-failed"}
    assert "the nvidia probe did not come back within 0.2 s" in failed["nvidia-failed"]
    assert profile.ram_total_bytes


def test_reading_ram_is_measured_by_really_reading_it() -> None:
    import ctypes

    size = 8 << 20
    buffer = ctypes.create_string_buffer(b"\1" * size, size)
    wall, cpu = _pass(ctypes.addressof(buffer), size // 2, 2)
    assert wall > 0
    assert cpu > 0
    assert threading.active_count() >= 1
    assert measure_read_bandwidth(System(), cores=1, free_bytes=64 << 20) is None


def test_a_measured_bandwidth_is_a_figure_or_a_named_lack_of_one() -> None:
    profile = probe_node(engines=False, override=Override(), measure_bandwidth=True)
    assert profile.cpu is not None
    speed, codes = profile.cpu.bandwidth_bytes_per_s, [notice.code for notice in profile.warnings]
    assert (speed is None) == ("bandwidth-not-measured" in codes)
    if speed is not None:
        assert 1e9 < speed < 3e12
        assert profile.cpu.bandwidth_source == "measured: all usable cores reading"
