"""Cards that the kernel shows and that this process cannot open: a container's /sys lists all cards of its host."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from profiles.probe.system import Found
from profiles.types import Notice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from profiles.probe.system import System
    from profiles.types import Device

_RENDER: Final = re.compile(r"renderD\d+")


def within_reach(system: System, devices: Sequence[Device]) -> Found:
    """The devices, those left alone whose render node is not here; a notice for each that may not be opened."""
    if not system.path("/dev").is_dir():
        return Found(tuple(devices))
    seen = []
    notices = []
    for device in devices:
        node = _render_node(system, device)
        if node is None or os.access(node, os.R_OK | os.W_OK):
            seen.append(device)
        elif not node.exists():
            reason = f"/dev/dri/{node.name} is not here: the card was not passed into this container"
            seen.append(replace(device, excluded=device.excluded or reason))
        else:
            seen.append(device)
            message = (
                f"{device.id} ({device.name}): /dev/dri/{node.name} may not be opened, so no engine can use the card: "
                "sudo usermod -aG render,video $USER, then log in anew"
            )
            notices.append(Notice("render-node-denied", message, device.id))
    return Found(tuple(seen), tuple(notices))


def _render_node(system: System, device: Device) -> Path | None:
    if device.sysfs_path is None:
        return None
    names = [entry.name for entry in system.entries(Path(device.sysfs_path) / "drm") if _RENDER.fullmatch(entry.name)]
    return system.path(f"/dev/dri/{names[0]}") if names else None
