"""Engines on this machine, with their builds and the devices that they see, by asking each engine itself.

The embedded engine is asked in a process of its own: loading a GPU backend into ours would take memory on the card.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from profiles.types import Device, EngineDevice, FoundEngine, Notice

if TYPE_CHECKING:
    from profiles.probe.system import System

MIB = 1 << 20
LISTED_DEVICE = re.compile(r"^\s+(\S+): (.+) \((\d+) MiB, (\d+) MiB free\)\s*$")
"""A line of ``llama-server --list-devices``: ``  CUDA0: NVIDIA GeForce RTX 5090 (32607 MiB, 31992 MiB free)``."""

ASK_EMBEDDED = """
import importlib.metadata, json, xllamacpp
devices = [
    [d["name"], d["description"], d["memory_total"], d["memory_free"]]
    for d in xllamacpp.get_device_info() if not d["type"].name.endswith("_CPU")
]
print(json.dumps([importlib.metadata.version("xllamacpp"), devices]))
"""


def find_engines(system: System, *, llama_server: str | None = None, ask: bool = True) -> tuple[FoundEngine, ...]:
    """Every engine that is here. ``ask`` starts each one for its build and devices; without it only paths are told.

    Args:
        system: where to look.
        llama_server: the binary to take instead of the one on the search path.
        ask: start them.
    """
    found = []
    server = llama_server or system.which("llama-server")
    if server is not None:
        found.append(_llama_server(system, server) if ask else FoundEngine("llama-server", server))
    ollama = system.which("ollama")
    if ollama is not None:
        found.append(FoundEngine("ollama", ollama, _ollama_build(system, ollama) if ask else None))
    embedded = _embedded(system) if ask else _embedded_unasked()
    if embedded is not None:
        found.append(embedded)
    return tuple(found)


def _llama_server(system: System, path: str) -> FoundEngine:
    version = system.output([path, "--version"], timeout_s=20) or ""
    build = next((line.removeprefix("version: ") for line in version.splitlines() if line.startswith("version:")), None)
    devices = listed_devices(system.output([path, "--list-devices"], timeout_s=20) or "")
    return FoundEngine("llama-server", path, build, devices)


def fill_from_engines(
    devices: tuple[Device, ...], engines: tuple[FoundEngine, ...]
) -> tuple[tuple[Device, ...], tuple[Notice, ...]]:
    """Give devices whose driver does not tell their memory the figures of an engine that lists them.

    Only where there is no doubt which is meant: one such device of a vendor, and one listed under that vendor's name.
    """
    filled = list(devices)
    notices = []
    for place, device in enumerate(devices):
        if not device.is_gpu or device.memory_free_bytes is not None:
            continue
        peers = [each for each in devices if each.vendor == device.vendor]
        for engine in engines:
            listed = [each for each in engine.devices if device.vendor in each.description.lower()]
            if len(peers) == 1 and len(listed) == 1 and listed[0].memory_total_bytes:
                total, free = listed[0].memory_total_bytes, listed[0].memory_free_bytes
                filled[place] = replace(device, memory_total_bytes=total, memory_free_bytes=free)
                message = f"{device.id}: its memory is what {engine.kind} says of {listed[0].name}"
                notices.append(Notice("memory-from-engine", message, device.id))
                break
    return tuple(filled), tuple(notices)


def listed_devices(text: str) -> tuple[EngineDevice, ...]:
    """The devices in the output of ``--list-devices``; backends print their own lines around them."""
    found = []
    for line in text.splitlines():
        match = LISTED_DEVICE.match(line)
        if match:
            found.append(EngineDevice(match[1], match[2], int(match[3]) * MIB, int(match[4]) * MIB))
    return tuple(found)


def _ollama_build(system: System, path: str) -> str | None:
    match = re.search(r"(?<!\d)\d++\.\d\S*", system.output([path, "--version"]) or "")
    return match[0] if match else None


def _embedded(system: System) -> FoundEngine | None:
    text = system.output([sys.executable, "-c", ASK_EMBEDDED], timeout_s=30)
    for line in reversed((text or "").splitlines()):
        try:
            build, rows = json.loads(line)
        except (ValueError, RecursionError):
            continue  # what a backend logs while it starts
        devices = tuple(EngineDevice(name, description, total, free) for name, description, total, free in rows)
        return FoundEngine("embedded", None, f"xllamacpp {build}", devices)
    return None


def _embedded_unasked() -> FoundEngine | None:
    import importlib.metadata
    import importlib.util

    if importlib.util.find_spec("xllamacpp") is None:
        return None
    return FoundEngine("embedded", None, f"xllamacpp {importlib.metadata.version('xllamacpp')}")
