"""Why a cell waits: for a quarantine to end, or because no slot can serve or hold it, with a sentence for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator import blame
from orchestrator.placement import why_not

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.records import Cell, Station
    from orchestrator.schedule import Schedule


def waits_for_quarantine(schedule: Schedule, cells: Mapping[str, Cell], retries: int) -> bool:
    """Whether a slot in quarantine may serve what is left once that is over."""
    return any(
        station.health.quarantined
        for cell_id in schedule.parked
        for bundle in cells[cell_id].bundles.values()
        if bundle.open
        for station in blame.slots_with_tries(cells[cell_id], bundle, retries)
    )


def unplaced(schedule: Schedule, cells: Mapping[str, Cell], retries: int) -> dict[str, list[str]]:
    """The cells that wait and that no known slot can serve now, with a sentence for each slot."""
    found = {}
    for cell_id in schedule.parked:
        cell = cells[cell_id]
        if cell.open and not schedule.candidates(cell):
            slots = [s for s in schedule.stations.values() if not s.slot.elsewhere or s.slot_id in cell.verdicts]
            said = [reason(cell, station, retries) for station in slots]
            found[cell_id] = list(dict.fromkeys([*said, *cell.unserved.values()]))
    return found


def too_big(schedule: Schedule, cells: Mapping[str, Cell]) -> dict[str, list[str]]:
    """The cells that wait and are too big for every slot that would serve them, with a sentence for each.

    A cell that has been served was not too big for a node that is gone now: it is not among them.
    """
    found = {}
    for cell_id in schedule.parked:
        cell = cells[cell_id]
        slots = [schedule.stations[slot_id] for slot_id in cell.verdicts if slot_id in schedule.stations]
        said = [why_not(cell.verdicts[station.slot_id], station.slot) for station in slots]
        reasons = [each for each in said if each is not None]
        if cell.open and cell.hardware_class is None and reasons and len(reasons) == len(said):
            found[cell_id] = list(dict.fromkeys(reasons))
    return found


def reason(cell: Cell, station: Station, retries: int) -> str:
    """Why the slot does not serve the cell now."""
    if station.node_id in cell.unserved:
        return cell.unserved[station.node_id]
    if (never := why_not(cell.verdicts.get(station.slot_id), station.slot)) is not None:
        return never
    where = "/".join(station.place)
    if not any(cell.bundles_on(station)):
        needed = set().union(*(bundle.needs for bundle in cell.bundles.values() if bundle.open))
        return "; ".join(said for need, said in station.lacking.items() if need in needed)
    if (program := cell.program_on(station)) in cell.refused_programs:
        return f"{where}: {program} refuses it: {cell.refused_programs[program]}"
    if not blame.tries_left(cell, station, retries):
        times, last = cell.tries[station.place], cell.reasons[station.place][1]
        if times == 1:
            return f"{where}: could not be served there: {last}"
        return f"{where}: could not be served there {times} times: {last}"
    if station.health.quarantined:
        return f"{where}: in quarantine: {station.health.reason}"
    return f"{where}: does not answer" if station.silent else f"{where}: its jobs failed there"
