"""Engines on this machine, with their builds and the devices that they see, by asking each engine itself.

The embedded engine is asked in a process of its own: loading a GPU backend into ours would take memory on the card.
"""

from __future__ import annotations

import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from profiles.backends import BY_UUID, HIDES, ONLY_VENDOR, backend_of_name
from profiles.environment import engine_environment
from profiles.matching import match_devices
from profiles.programs import NotHereError, find_llama_server
from profiles.types import Device, EngineDevice, FoundEngine, Notice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from profiles.probe.system import System

MIB = 1 << 20
ASK_S = 20.0
"""How long a program may take to answer: a build for several GPUs looks for all of them before it prints anything."""
AT_ONCE = 4
"""Programs that are asked at the same time about one device each."""
OF_OWNER = ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
"""Who sets one of these has chosen among AMD's cards; asking for each of them would undo that."""
MOST_DEVICES = 64
MOST_CHARS = 200

LISTED_DEVICE = re.compile(r"^\s+(\S+): (.+) \((\d+) MiB, (\d+) MiB free\)\s*$")
"""A line of ``llama-server --list-devices``: ``  CUDA0: NVIDIA GeForce RTX 5090 (32607 MiB, 31992 MiB free)``."""

ASK_EMBEDDED = """
import importlib.metadata, json, xllamacpp
devices = [
    [d["name"], d["description"], d["memory_total"], d["memory_free"], d.get("device_id") or None]
    for d in xllamacpp.get_device_info() if not d["type"].name.endswith("_CPU")
]
print(json.dumps([importlib.metadata.version("xllamacpp"), devices]))
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which engines to look for: ``of_owner`` is machine.toml's llama-server, ``binaries`` those that a spec names."""

    of_owner: str | None = None
    binaries: tuple[str, ...] = ()


def find_engines(
    system: System, wanted: Wanted | None = None, *, devices: Sequence[Device] = (), ask: bool = True
) -> tuple[FoundEngine, ...]:
    """Every engine that is here, its devices matched with those of the machine.

    Args:
        system: where to look.
        wanted: programs that somebody named.
        devices: of the machine.
        ask: start each engine for its build and devices; without it only paths are told.
    """
    wanted = wanted or Wanted()
    servers = [(wanted.of_owner, None), *((None, binary) for binary in dict.fromkeys(wanted.binaries))]
    looks: list[Callable[[], FoundEngine | None]] = [
        *(partial(_llama_server, system, owner, named, devices, ask=ask) for owner, named in servers),
        partial(_ollama, system, ask=ask),
        partial(_embedded, system) if ask else _embedded_unasked,
    ]
    with ThreadPoolExecutor(len(looks)) as pool:
        found = list(pool.map(lambda look: look(), looks))
    return tuple(_matched(engine, devices) for engine in found if engine is not None)


def matched_anew(engines: tuple[FoundEngine, ...], devices: Sequence[Device]) -> tuple[FoundEngine, ...]:
    """The engines, held against these devices."""
    return tuple(_matched(engine, devices) for engine in engines)


def _matched(engine: FoundEngine, devices: Sequence[Device]) -> FoundEngine:
    return replace(engine, matches=match_devices(devices, engine.devices))


def _llama_server(
    system: System, of_owner: str | None, in_spec: str | None, devices: Sequence[Device], *, ask: bool
) -> FoundEngine | None:
    kind = "llama-server"
    try:
        if system.is_ours:
            program = find_llama_server(in_spec=in_spec, of_owner=of_owner)
        else:
            nowhere = system.path("/nothing-is-built-there")
            program = find_llama_server(
                in_spec=in_spec, of_owner=of_owner, search_path=system.search_path, environment={}, builds=nowhere
            )
    except NotHereError as why:
        problem = f"{why}; {why.hint}"
        return FoundEngine(kind, in_spec, named=in_spec, problem=problem) if why.is_named else None
    found = FoundEngine(kind, str(program.path), origin=program.origin, named=in_spec)
    return _asked(system, found, program.path, devices) if ask else found


def _asked(system: System, found: FoundEngine, path: Path, devices: Sequence[Device]) -> FoundEngine:
    version = system.answer([str(path), "--version"], timeout_s=ASK_S, environment=engine_environment())
    lines = version.text.splitlines()
    build = next((line.removeprefix("version: ") for line in lines if line.startswith("version:")), None)
    if build is None:
        said = version.failure or (f"it says: {lines[-1][:MOST_CHARS]}" if lines else "it says nothing")
        return replace(found, problem=f"{path} does not tell its version: {said}")
    return replace(found, build=build[:MOST_CHARS], devices=_list_devices(system, path, devices))


def _list_devices(system: System, path: Path, devices: Sequence[Device]) -> tuple[EngineDevice, ...]:
    """What the program lists; where several cards of a maker are here, each by itself, under its UUID."""
    listed = _listing(system, path)
    for backend in BY_UUID:
        if backend == "rocm" and any(name in os.environ for name in OF_OWNER):
            continue
        of_vendor = [device for device in devices if device.vendor == ONLY_VENDOR[backend]]
        cards = [device.uuid for device in of_vendor if device.uuid and device.excluded is None]
        if len(of_vendor) > 1 and any(backend_of_name(each.name) == backend for each in listed):
            others = tuple(each for each in listed if backend_of_name(each.name) != backend)
            alone = _one_by_one(system, path, backend, cards)
            listed = (*alone, *others) if alone else listed
    return listed


def _one_by_one(system: System, path: Path, backend: str, uuids: list[str]) -> tuple[EngineDevice, ...]:
    """Each card of a backend as it is listed alone; nothing, if the variable that should hide the others does not."""

    def alone(uuid: str) -> list[EngineDevice]:
        visible = {BY_UUID[backend]: uuid} | ({HIDES["rocm"]: "0"} if backend == "rocm" else {})
        seen = _listing(system, path, **visible)
        return [replace(each, uuid=uuid) for each in seen if backend_of_name(each.name) == backend]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        seen = list(pool.map(alone, uuids))
    return () if any(len(each) > 1 for each in seen) else tuple(each for one in seen for each in one)


def _listing(system: System, path: Path, **visible: str) -> tuple[EngineDevice, ...]:
    """A program that prints its list and crashes at its exit has printed its list all the same."""
    environment = engine_environment(**visible)
    return listed_devices(system.answer([str(path), "--list-devices"], timeout_s=ASK_S, environment=environment).text)


def fill_from_engines(
    devices: tuple[Device, ...], engines: tuple[FoundEngine, ...]
) -> tuple[tuple[Device, ...], tuple[Notice, ...]]:
    """Give devices whose driver does not tell their memory the figures of an engine that lists them."""
    filled = list(devices)
    notices = []
    for place, device in enumerate(devices):
        if not device.is_gpu or device.memory_free_bytes is not None:
            continue
        for engine in engines:
            match = engine.match(device.id)
            listed = None if match is None else engine.listed(match, device)
            if listed is not None and listed.memory_total_bytes:
                total, free = listed.memory_total_bytes, listed.memory_free_bytes
                filled[place] = replace(device, memory_total_bytes=total, memory_free_bytes=free)
                message = f"{device.id}: its memory is what {engine.kind} says of {listed.name}"
                notices.append(Notice("memory-from-engine", message, device.id))
                break
    return tuple(filled), tuple(notices)


def listed_devices(text: str) -> tuple[EngineDevice, ...]:
    """The devices in the output of ``--list-devices``; backends print their own lines around them."""
    found: list[EngineDevice] = []
    for line in text.splitlines():
        match = LISTED_DEVICE.match(line[: 2 * MOST_CHARS])
        if match and len(found) < MOST_DEVICES:
            name, description = match[1][:MOST_CHARS], match[2][:MOST_CHARS]
            found.append(EngineDevice(name, description, int(match[3]) * MIB, int(match[4]) * MIB))
    return tuple(found)


def _ollama(system: System, *, ask: bool) -> FoundEngine | None:
    path = system.which("ollama")
    if path is None:
        return None
    return FoundEngine("ollama", path, _ollama_build(system, path) if ask else None, origin="PATH")


def _ollama_build(system: System, path: str) -> str | None:
    match = re.search(r"(?<!\d)\d++\.\d\S*", system.output([path, "--version"]) or "")
    return match[0] if match else None


def _embedded(system: System) -> FoundEngine | None:
    answer = system.answer([sys.executable, "-c", ASK_EMBEDDED], timeout_s=30, environment=engine_environment())
    for line in reversed(answer.text.splitlines()):
        try:
            build, rows = json.loads(line)
        except (ValueError, TypeError, RecursionError):
            continue  # what a backend logs while it starts
        devices = tuple(
            EngineDevice(name, description, total, free, pci_id=pci)
            for name, description, total, free, pci in rows[:MOST_DEVICES]
        )
        return FoundEngine("embedded", None, f"xllamacpp {build}", devices)
    unasked = _embedded_unasked()
    if unasked is None:
        return None
    said = answer.failure or (answer.text.splitlines() or ["it says nothing"])[-1][:MOST_CHARS]
    return replace(unasked, problem=f"xllamacpp does not work here: {said}")


def _embedded_unasked() -> FoundEngine | None:
    import importlib.metadata
    import importlib.util

    if importlib.util.find_spec("xllamacpp") is None:
        return None
    return FoundEngine("embedded", None, f"xllamacpp {importlib.metadata.version('xllamacpp')}")
