"""What a probe cannot know, said by the machine's owner in a TOML file, and its effect on a profile.

The file is the one that ``QUANTSWEEP_MACHINE`` names, else ``~/.config/quantsweep/machine.toml`` (``XDG_CONFIG_HOME``
is obeyed); none is needed. For example:

    llama_server = "/opt/llama.cpp/bin/llama-server"
    models_dir = "/mnt/models"
    pass_on = ["LD_PRELOAD"]             # variables that engines are to see, beside those of profiles/environment.py

    [device.cpu]
    leave_free = "4 GiB"

    [device."RTX 5090"]                  # an id, a UUID, a PCI address, or part of a name
    leave_free = "1.5 GiB"               # for the desktop

    [device.nvidia-1]
    leave_alone = "the children's computer"

    [device.intel-0]
    memory = "16 GiB"                    # what the driver does not tell
    bandwidth = "560 GB/s"
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiles.errors import OverrideError
from profiles.homes import expanded
from profiles.types import Notice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from profiles.types import Device

UNITS: dict[str, int] = {
    "B": 1,
    **{f"{prefix}B": 10 ** (3 * power) for power, prefix in enumerate("kMGT", 1)},
    **{f"{prefix}iB": 2 ** (10 * power) for power, prefix in enumerate("KMGT", 1)},
}
QUANTITY = re.compile(r"^(\d+(?:\.\d+)?)\s*([kKMGT]?i?B)$")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
DEVICE_KEYS = ("leave_free", "leave_alone", "memory", "bandwidth")
FILE_KEYS = ("llama_server", "models_dir", "pass_on", "device")
_MOST_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class DeviceOverride:
    """What is said of one device. ``leave_alone`` is the reason."""

    leave_free_bytes: int = 0
    leave_alone: str | None = None
    memory_bytes: int | None = None
    bandwidth_bytes_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Override:
    """The whole file; ``devices`` by the key that the owner wrote."""

    llama_server: str | None = None
    models_dir: str | None = None
    devices: Mapping[str, DeviceOverride] = field(default_factory=dict)
    path: Path | None = None
    pass_on: frozenset[str] = frozenset()


def default_path() -> Path:
    """Where the file is looked for."""
    named = os.environ.get("QUANTSWEEP_MACHINE")
    if named:
        return expanded(named)
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "quantsweep" / "machine.toml"


def load_override(path: Path | None = None) -> Override:
    """The file at ``path``, or the default one; an empty override where the default one does not exist.

    Raises:
        OverrideError: it cannot be read, is no TOML, or says something that is not understood.
    """
    chosen = path or default_path()
    try:
        text = _content(chosen).decode("utf-8-sig")
    except FileNotFoundError:
        if path is None and "QUANTSWEEP_MACHINE" not in os.environ:
            return Override()
        raise OverrideError(f"{chosen}: there is no such file (QUANTSWEEP_MACHINE names it)") from None
    except (OSError, UnicodeDecodeError) as error:
        raise OverrideError(f"{chosen}: cannot be read: {error}") from error
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # besides its own: numbers of thousands of digits, deep nesting
        raise OverrideError(f"{chosen}: is no valid TOML: {error}") from error
    return _parse(data, chosen)


def _content(path: Path) -> bytes:
    """What the file holds; `OverrideError` for what would keep its reader for ever, as a pipe or a device does."""
    if not stat.S_ISREG(path.stat().st_mode) and str(path) != os.devnull:  # which is an empty file
        raise OverrideError(f"{path}: cannot be read: it is not a file")
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise OverrideError(f"{path}: is larger than {_MOST_BYTES:,} bytes")
    return content


def apply_override(override: Override, devices: tuple[Device, ...]) -> tuple[tuple[Device, ...], tuple[Notice, ...]]:
    """The devices as their owner wants them seen, and a notice for each entry that is about no device here.

    Memory to leave free is taken off what is free: a model that would eat it does not fit.
    """
    changed = list(devices)
    notices = []
    for key, said in override.devices.items():
        places = [place for place, device in enumerate(devices) if _is_meant(key, device)]
        if not places:
            have = ", ".join(f"{device.id} ({device.name})" for device in devices)
            message = f"{override.path}: [device.{key!r}] is about no device of this machine; it has {have}"
            notices.append(Notice("override-unused", message))
        for place in places:
            changed[place] = _changed(changed[place], said)
    return tuple(changed), tuple(notices)


def _changed(device: Device, said: DeviceOverride) -> Device:
    total, free = device.memory_total_bytes, device.memory_free_bytes
    if said.memory_bytes is not None:
        # The owner vouches for the total; what is free stays what was measured, or the total where nothing could be.
        total = said.memory_bytes
        free = total if free is None else min(free, total)
    if free is not None:
        free = max(0, free - said.leave_free_bytes)
    bandwidth, source = device.bandwidth_bytes_per_s, device.bandwidth_source
    if said.bandwidth_bytes_per_s is not None:
        bandwidth, source = said.bandwidth_bytes_per_s, "override file"
    return replace(
        device,
        memory_total_bytes=total,
        memory_free_bytes=free,
        bandwidth_bytes_per_s=bandwidth,
        bandwidth_source=source,
        reserved_bytes=device.reserved_bytes + said.leave_free_bytes,
        excluded=said.leave_alone or device.excluded,
    )


def _is_meant(key: str, device: Device) -> bool:
    exact = {device.id, device.uuid, device.pci_id, device.name}
    return key in exact or (len(key) > 3 and key.lower() in device.name.lower())


def _parse(data: Mapping[str, Any], path: Path) -> Override:
    _only(data, FILE_KEYS, path, "")
    tables = data.get("device", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise OverrideError(f"{path}: 'device' has to be tables, such as [device.nvidia-0]")
    devices = {}
    for key, table in tables.items():
        where = f"[device.{key}] "
        _only(table, DEVICE_KEYS, path, where)
        alone = table.get("leave_alone", False)
        if not isinstance(alone, bool | str):
            raise OverrideError(f"{path}: {where}leave_alone has to be true or the reason as text, not {alone!r}")
        devices[key] = DeviceOverride(
            leave_free_bytes=round(_quantity(table, "leave_free", path, where) or 0),
            leave_alone=alone if isinstance(alone, str) else "the override file says so" if alone else None,
            memory_bytes=None if (size := _quantity(table, "memory", path, where)) is None else round(size),
            bandwidth_bytes_per_s=_quantity(table, "bandwidth", path, where),
        )
    server, folder = (_text(data, key, path) for key in ("llama_server", "models_dir"))
    if server is not None and not (Path(server).is_file() and os.access(server, os.X_OK)):
        raise OverrideError(f"{path}: llama_server: {server} is no program that can be run")
    names = data.get("pass_on", [])
    if not isinstance(names, list) or not all(isinstance(name, str) and NAME.fullmatch(name) for name in names):
        raise OverrideError(f"{path}: pass_on has to be a list of names of variables, such as ['LD_PRELOAD']")
    return Override(server, folder, devices, path, frozenset(names))


def _only(table: Mapping[str, Any], keys: tuple[str, ...], path: Path, where: str) -> None:
    for key in table:
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(keys)}"
            raise OverrideError(f"{path}: {where}unknown key {key!r}{hint}")


def _text(table: Mapping[str, Any], key: str, path: Path) -> str | None:
    value = table.get(key)
    if value is not None and not isinstance(value, str):
        raise OverrideError(f"{path}: {key} has to be text, not {value!r}")
    return None if value is None else str(expanded(value))


def _quantity(table: Mapping[str, Any], key: str, path: Path, where: str) -> float | None:
    value = table.get(key)
    if value is None:
        return None
    match = QUANTITY.match(value.strip().removesuffix("/s")) if isinstance(value, str) else None
    unit = None if match is None else UNITS.get(match[2].replace("KB", "kB").replace("ki", "Ki"))
    if match is None or unit is None:
        example = "560 GB/s" if key == "bandwidth" else "1.5 GiB"
        wanted = f"has to be a quantity with its unit, such as {example!r}, not {value!r}"
        raise OverrideError(f"{path}: {where}{key} {wanted}")
    return float(match[1]) * float(unit)
