from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiles.probe import host
from profiles.probe.cgroups import cpu_quota, memory_limit
from profiles.probe.system import System

if TYPE_CHECKING:
    from pathlib import Path

    from tests.profiles.conftest import Machine

GIB = 1 << 30
V2_MOUNT = "31 23 0:28 / /sys/fs/cgroup rw,nosuid,relatime - cgroup2 cgroup2 rw,nsdelegate"


def v2(machine: Machine, group: str, files: dict[str, Any]) -> System:
    machine.write({"proc/self/mountinfo": V2_MOUNT, "proc/self/cgroup": f"0::{group}"})
    machine.write({f"sys/fs/cgroup/{name}": content for name, content in files.items()})
    return machine.system


def test_no_cgroups_at_all_is_no_limit(machine: Machine) -> None:
    assert memory_limit(machine.system) is None
    assert cpu_quota(machine.system) is None


def test_a_container_limit_counts_and_reclaimable_cache_is_free(machine: Machine) -> None:
    system = v2(
        machine,
        "/docker/abc",
        {
            "memory.max": "max",
            "docker/abc/memory.max": 8 * GIB,
            "docker/abc/memory.current": 5 * GIB,
            "docker/abc/memory.stat": f"anon 1\ninactive_file {2 * GIB}\nactive_file 5",
            "docker/abc/cpu.max": "150000 100000",
        },
    )
    limit = memory_limit(system)
    assert limit is not None
    assert (limit.limit_bytes, limit.free_bytes) == (8 * GIB, 5 * GIB)
    assert limit.source == "cgroup v2 /sys/fs/cgroup/docker/abc/memory.max"
    assert cpu_quota(system) == 1.5


def test_the_tightest_level_wins_and_so_does_the_fullest(machine: Machine) -> None:
    system = v2(
        machine,
        "/slice/inner",
        {
            "slice/memory.max": 16 * GIB,
            "slice/memory.current": 15 * GIB,
            "slice/inner/memory.max": 8 * GIB,
            "slice/inner/memory.current": GIB,
            "slice/cpu.max": "200000 100000",
            "slice/inner/cpu.max": "max 100000",
        },
    )
    limit = memory_limit(system)
    assert limit is not None
    # The inner limit is the size; the outer group, nearly full through its other members, decides what is left.
    assert (limit.limit_bytes, limit.free_bytes) == (8 * GIB, GIB)
    assert cpu_quota(system) == 2.0


def test_a_namespace_shows_the_root_as_the_own_group(machine: Machine) -> None:
    system = v2(machine, "/", {"memory.max": 4 * GIB, "memory.current": GIB})
    limit = memory_limit(system)
    assert limit is not None
    assert limit.limit_bytes == 4 * GIB


def test_version_1_with_the_host_path_inside_a_container(machine: Machine) -> None:
    machine.write(
        {
            "proc/self/mountinfo": "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
            "36 31 0:33 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct",
            "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": 2 * GIB,
            "sys/fs/cgroup/memory/memory.usage_in_bytes": GIB,
            "sys/fs/cgroup/memory/memory.stat": "cache 5\ntotal_inactive_file 1048576",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": 50000,
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": 100000,
        }
    )
    limit = memory_limit(machine.system)
    assert limit is not None
    assert (limit.limit_bytes, limit.free_bytes) == (2 * GIB, GIB + 1048576)
    assert cpu_quota(machine.system) == 0.5


def test_version_1_without_a_limit_says_so_with_a_huge_number(machine: Machine) -> None:
    machine.write(
        {
            "proc/self/mountinfo": "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
            "proc/self/cgroup": "4:memory:/process_api/x",
            "sys/fs/cgroup/memory/process_api/x/memory.limit_in_bytes": 9223372036854771712,
            "sys/fs/cgroup/memory/process_api/x/memory.usage_in_bytes": GIB,
        }
    )
    assert memory_limit(machine.system) is None


def test_the_profile_of_a_small_container_on_a_large_host(machine: Machine) -> None:
    system = v2(machine, "/", {"memory.max": 64 << 20, "memory.current": 16 << 20, "cpu.max": "25000 100000"})
    ram = host.memory(system)
    assert (ram.total_bytes, ram.free_bytes) == (64 << 20, 48 << 20)
    assert ram.limit is not None
    assert "memory.max" in ram.limit
    assert host.processor(system).usable == 0.25


def test_a_limit_above_the_machine_itself_is_none(machine: Machine) -> None:
    system = v2(machine, "/", {"memory.max": 1 << 50, "memory.current": GIB})
    ram = host.memory(system)
    assert ram.total_bytes == psutil.virtual_memory().total
    assert ram.limit is None


def test_this_machine_is_read_as_psutil_reads_it() -> None:
    ram = host.memory(System())
    assert ram.total_bytes is not None
    assert 0 < ram.total_bytes <= psutil.virtual_memory().total
    assert ram.free_bytes is not None
    assert 0 < ram.free_bytes <= ram.total_bytes


@pytest.fixture
def fuzzed_root(tmp_path: Path) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    return tmp_path


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mounts=st.binary(max_size=200), groups=st.binary(max_size=100), limit=st.binary(max_size=30))
def test_no_contents_of_the_files_end_the_probe(fuzzed_root: Path, mounts: bytes, groups: bytes, limit: bytes) -> None:
    system = System(root=fuzzed_root)
    (fuzzed_root / "proc/self/mountinfo").write_bytes(mounts)
    (fuzzed_root / "proc/self/cgroup").write_bytes(groups)
    assert memory_limit(system) is None or mounts
    (fuzzed_root / "proc/self/mountinfo").write_text(V2_MOUNT)
    (fuzzed_root / "proc/self/cgroup").write_text("0::/")
    for name in ("memory.max", "memory.current", "memory.stat", "cpu.max"):
        (fuzzed_root / "sys/fs/cgroup" / name).write_bytes(limit)
    found = memory_limit(system)
    assert found is None or (found.limit_bytes > 0 and (found.free_bytes is None or found.free_bytes >= 0))
    quota = cpu_quota(system)
    assert quota is None or quota > 0
