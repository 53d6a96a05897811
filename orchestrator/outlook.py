"""What running a sweep will take of this machine, before anything of it is done: downloads, room on disk, time."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from orchestrator.placement import ASSUMED_BANDWIDTH, ASSUMED_LOAD_BANDWIDTH, ASSUMED_TOKENS
from orchestrator.progress import duration
from quants.models import FileModel
from results.figures import size
from runners.engines.settings import EndpointSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from orchestrator.places import ServingPlace
    from runners.work import Cell

LEAST_LOAD_S = 2.0
"""What starting and warming up an engine takes, whatever the size of the model."""
JUDGED_S = 0.5
"""What a job takes beside its tokens: running what was written, most of all."""
ASSUMED_ENDPOINT_TPS = 50.0
DISK_MARGIN_BYTES = 1 << 30
"""Room that nobody should use up: rows, logs and everybody else's files."""


def outlook(
    cells: Sequence[Cell],
    jobs: int,
    places: Iterable[ServingPlace | None],
    *,
    least: int | None = None,
    decode_tps: Sequence[float | None] = (),
) -> dict[str, Any]:
    """Figures of a sweep on this machine.

    Args:
        cells: what is to be run.
        jobs: of each cell.
        places: where each cell would be served, None where it cannot be.
        least: how many jobs of each cell there are at least, where that depends on the scores.
        decode_tps: the predicted rate of each cell (`orchestrator.rates`); None where there is none.

    Returns:
        `download_bytes` (what the Hub's cache does not have), `download_folder`, `free_bytes` there, and
        `seconds`: loading at 1 GB/s, and answers of 1,000 tokens at the predicted rate; without one, as if each read
        the weights once, or 50 tokens/s at an endpoint. Devices and endpoints work beside each other. `seconds_least`
        is the same for the `least` jobs. None where no cell can be served. It is a guess, good for telling minutes from
        days.
    """
    from quants.hub.client import HubSettings

    folder = HubSettings.from_environment().cache_dir
    wanted: dict[tuple[str, str, str], int] = {}
    for cell in cells:
        wanted |= _to_fetch(cell, folder)
    busy_s: dict[str, float] = {}
    least_s: dict[str, float] = {}
    for cell, place, tps in zip(cells, places, decode_tps or [None] * len(cells), strict=True):
        if place is None:
            continue
        took_s, takes_s = (_cell_s(cell, number, place, tps) for number in (jobs, jobs if least is None else least))
        for who in [device.id for device in place.devices] or [f"endpoint {place.provider}"]:
            busy_s[who] = busy_s.get(who, 0.0) + took_s
            least_s[who] = least_s.get(who, 0.0) + takes_s
    return {
        "download_bytes": sum(wanted.values()),
        "download_folder": str(folder),
        "free_bytes": _free_bytes(folder),
        "seconds": max(busy_s.values()) if busy_s else None,
        "seconds_least": max(least_s.values()) if least_s else None,
    }


def outlook_lines(found: dict[str, Any]) -> list[str]:
    """The figures as a person reads them."""
    lines = []
    if found["seconds"] is not None:
        least = "" if found["seconds_least"] == found["seconds"] else f"{duration(found['seconds_least'])} to "
        takes = f"about {least}{duration(found['seconds'])}"
        lines.append(f"{takes} on this machine, if an answer has {ASSUMED_TOKENS:,} tokens (a guess)")
    if found["download_bytes"]:
        room = "" if found["free_bytes"] is None else f" ({size(found['free_bytes'])} free)"
        lines.append(f"to be downloaded: {size(found['download_bytes'])} into {found['download_folder']}{room}")
        if found["free_bytes"] is not None and found["download_bytes"] + DISK_MARGIN_BYTES > found["free_bytes"]:
            lines.append(
                "warning: there is not enough room for that; make some, or have HF_HOME name a folder with more"
            )
    return lines


def _to_fetch(cell: Cell, folder: Path) -> dict[tuple[str, str, str], int]:
    from quants.hub.repository import repo_folder

    if not isinstance(cell.model, FileModel):
        return {}
    artifact = cell.model.artifact
    if artifact.repo is None or artifact.revision is None:
        return {}
    snapshot = repo_folder(folder, artifact.repo) / "snapshots" / artifact.revision
    return {
        (artifact.repo, artifact.revision, file.path): file.size_bytes
        for file in artifact.files
        if not (snapshot / file.path).is_file()
    }


def _cell_s(cell: Cell, jobs: int, place: ServingPlace, tps: float | None) -> float:
    if isinstance(cell.engine, EndpointSettings):
        return jobs * max(JUDGED_S + ASSUMED_TOKENS / ASSUMED_ENDPOINT_TPS, cell.engine.pause_s) / cell.engine.places
    weights = cell.model.file_bytes or 0
    token_s = weights / (place.bandwidth_of(cell.engine) or ASSUMED_BANDWIDTH) if tps is None else 1 / tps
    return LEAST_LOAD_S + weights / ASSUMED_LOAD_BANDWIDTH + jobs * (JUDGED_S + ASSUMED_TOKENS * token_s)


def _free_bytes(folder: Path) -> int | None:
    for there in (folder, *folder.parents):
        if there.is_dir():
            try:
                return shutil.disk_usage(there).free
            except OSError:
                return None
    return None
