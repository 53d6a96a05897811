"""Look at one machine: every probe on its own, and one that fails is a named warning, never the end.

    from profiles.probe import probe_node
    profile = probe_node(models_dir=Path("~/models").expanduser())

One module per question: ``host`` (CPU, RAM, disk, power state), ``nvidia``, ``amd``, ``intel``, ``apple``, ``engines``,
``tools``; ``system`` is where they all read, so that a test can show them the folders of another machine.
"""

from __future__ import annotations

import datetime as dt
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from profiles.override import Override, apply_override, load_override
from profiles.probe import host
from profiles.probe.bandwidth import measure_read_bandwidth
from profiles.probe.endpoints import find_endpoints
from profiles.probe.engines import Wanted, fill_from_engines, find_engines, matched_anew
from profiles.probe.needs import find_needs
from profiles.probe.reach import within_reach
from profiles.probe.system import Found, System
from profiles.probe.tools import find_tools
from profiles.probe.unlisted import devices_of_engines, unmatched_notices
from profiles.types import Device, FoundEngine, FoundNeed, FoundTool, NodeProfile, Notice
from profiles.visibility import left_alone
from profiles.within import HungError, within

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

T = TypeVar("T")

PROBE_S = 15.0
"""How long one question to the machine may take: a second at most where nothing hangs."""
ENGINES_S = 60.0
"""The same for programs that are started and asked; each has a limit of its own."""

MEMORY_UNKNOWN = frozenset({"intel-memory-unknown", "apple-working-set-unknown", "amd-memory-unknown"})
"""Notices that are settled when an engine tells what the driver does not."""

__all__ = ["Found", "System", "probe_node"]


def probe_node(
    *,
    models_dir: Path | None = None,
    engines: bool = True,
    binaries: Sequence[str] = (),
    endpoints: Sequence[tuple[str, str | None]] = (),
    needs: Collection[str] = (),
    measure_bandwidth: bool = False,
    override: Override | None = None,
    system: System | None = None,
) -> NodeProfile:
    """The profile of this machine.

    Args:
        models_dir: where model files will land; its disk is the one whose room is reported. None: what the override
            file says, else the home folder.
        engines: also run the engines and tools that are found, to learn their builds and devices. That takes as long as
            they need to start (up to seconds with a GPU); without it the profile comes in well under a second and
            names the tools without their versions.
        binaries: engine programs that a spec names, to be looked for and asked as well.
        endpoints: kinds of engines that ask servers which are not ours, each with the variable that holds its key.
        needs: names of what exams need (`profiles.probe.needs`), to be tried as well.
        measure_bandwidth: measure how fast the CPU reads RAM, without which no decode rate on the CPU can be called
            impossible. Takes up to half a second of every core: not while something is being timed.
        override: what the machine's owner said; None reads the override file, if there is one.
        system: the machine to look at; None is the one we run on.

    Raises:
        OverrideError: the override file is wrong.
    """
    system = system or System()
    override = load_override() if override is None else override
    notices: list[Notice] = []

    def attempt(name: str, probe: Callable[[], T], otherwise: T, seconds: float | None = None) -> T:
        try:
            return within(seconds or PROBE_S, f"the {name} probe", probe)
        except HungError as hung:  # a driver, a network disk: the machine is there all the same
            notices.append(Notice(f"{name}-failed", f"{hung}; restart the machine, or what hangs there"))
            return otherwise
        except Exception as error:  # whatever a driver, a library or a file did: the profile still comes, and says so
            notices.append(Notice(f"{name}-failed", f"the {name} probe failed: {type(error).__name__}: {error}"))
            return otherwise

    cpu = attempt("cpu", lambda: host.processor(system), host.Processor(None, None, None, None))
    ram = attempt("ram", lambda: host.memory(system), host.Memory(None, None, None, None, None))
    power = attempt("power", lambda: host.power_state(system), host.PowerState(None, None, ()))
    notices.extend(power.notices)
    folder = models_dir or Path(override.models_dir or Path.home())
    disk_free = attempt("disk", lambda: host.disk_free_bytes(folder), None)

    no_bandwidth: float | None = None
    measured = no_bandwidth
    if measure_bandwidth:
        cores, free = cpu.usable, ram.free_bytes
        measured = attempt(
            "bandwidth", lambda: measure_read_bandwidth(system, cores=cores, free_bytes=free), no_bandwidth
        )
        if measured is None:
            message = (
                "the CPU's memory bandwidth could not be measured: the machine is busy, or has too little free RAM"
            )
            notices.append(Notice("bandwidth-not-measured", message, "cpu"))
    devices: list[Device] = [host.cpu_device(cpu, ram, measured)]
    for name, probe in _gpu_probes(system, ram):
        found = attempt(name, probe, Found())
        devices.extend(found.devices)
        notices.extend(found.notices)
    no_engines: tuple[FoundEngine, ...] = ()
    no_tools: tuple[FoundTool, ...] = ()
    reached = within_reach(system, devices)
    notices.extend(reached.notices)
    here = left_alone(reached.devices, os.environ if system.is_ours else {})
    wanted = Wanted(override.llama_server, tuple(binaries))
    found_engines = attempt(
        "engines", lambda: find_engines(system, wanted, devices=here, ask=engines), no_engines, ENGINES_S
    )
    found_tools = attempt("tools", lambda: find_tools(system, versions=engines), no_tools, ENGINES_S)
    no_needs: tuple[FoundNeed, ...] = ()
    found_needs = attempt("needs", lambda: find_needs(needs, system), no_needs, ENGINES_S)
    more = devices_of_engines(here, found_engines)
    if more.devices:
        here = (*here, *more.devices)
        notices.extend(more.notices)
        found_engines = matched_anew(found_engines, here)
    told, learnt = fill_from_engines(here, found_engines)
    solved = {notice.device_id for notice in learnt}
    notices = [notice for notice in notices if notice.code not in MEMORY_UNKNOWN or notice.device_id not in solved]
    visible, said = apply_override(override, told)
    notices.extend((*learnt, *said))
    if engines:
        notices.extend(unmatched_notices(visible, found_engines))
    return NodeProfile(
        hostname=platform.node() or "localhost",
        os=f"{platform.system()} {platform.release()}",
        arch=platform.machine(),
        probed_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        cpu_model=cpu.model,
        cores_physical=cpu.physical,
        cores_logical=cpu.logical,
        cores_usable=cpu.usable,
        ram_total_bytes=ram.total_bytes,
        ram_free_bytes=ram.free_bytes,
        ram_limit=ram.limit,
        swap_total_bytes=ram.swap_total_bytes,
        swap_free_bytes=ram.swap_free_bytes,
        governor=power.governor,
        platform_profile=power.platform_profile,
        models_dir=str(folder),
        disk_free_bytes=disk_free,
        devices=visible,
        engines=(*found_engines, *find_endpoints(endpoints)),
        tools=found_tools,
        needs=found_needs,
        warnings=tuple(notices),
    )


def _gpu_probes(system: System, ram: host.Memory) -> list[tuple[str, Callable[[], Found]]]:
    from profiles.probe.amd import probe_amd
    from profiles.probe.apple import probe_apple
    from profiles.probe.intel import probe_intel
    from profiles.probe.nvidia import probe_nvidia

    return [
        ("nvidia", lambda: probe_nvidia(system, ram)),
        ("amd", lambda: probe_amd(system, ram)),
        ("intel", lambda: probe_intel(system)),
        ("apple", lambda: probe_apple(system, ram)),
    ]
