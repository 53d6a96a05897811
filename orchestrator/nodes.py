"""From a node's profile to what can be leased there: the verdict for each cell on each place, and a lease's order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.fitting import footprint_on, verdict_on
from orchestrator.placement import Slot
from orchestrator.places import engine_of, serving_places, unmatched_devices, why_not_served
from profiles.types import hardware_class
from quants.fit.verdict import Verdict, VerdictKind
from quants.models import FileModel
from runners.engines.settings import EndpointSettings, LlamaCppSettings
from runners.orders import CellOrder, Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator import events as ev
    from orchestrator.places import ServingPlace
    from orchestrator.plan import Plan
    from profiles.types import Device, FoundEngine, NodeProfile
    from runners.engines.settings import EngineSettings
    from runners.work import Cell


SERVED_ELSEWHERE = Verdict(VerdictKind.FITS, "served elsewhere: it needs no memory here")


def named_binaries(cells: Iterable[Cell]) -> tuple[str, ...]:
    """The engine programs that a spec names: a node is asked for these as well."""
    named = [cell.engine.program for cell in cells if not isinstance(cell.engine, EndpointSettings)]
    return tuple(dict.fromkeys(program for program in named if program is not None))


def named_endpoints(cells: Iterable[Cell]) -> tuple[tuple[str, str | None], ...]:
    """The engines that ask endpoints, each with the variable that holds its key: a node is asked whether it has it."""
    asked = [cell.engine for cell in cells if isinstance(cell.engine, EndpointSettings)]
    return tuple(dict.fromkeys((engine.kind, engine.program) for engine in asked))


def remarks(profile: NodeProfile, cells: Sequence[Cell]) -> list[str]:
    """What has to be said of the node before it serves these cells: GPUs that an engine cannot be given, and threads
    that it has no cores for.
    """
    found = []
    threads = {cell.engine.threads or 0 for cell in cells if isinstance(cell.engine, LlamaCppSettings)}
    cores = profile.cores_usable
    if cores is not None and (most := max(threads, default=0)) > max(1, cores):
        found.append(
            f"engine.threads = {most}, and there are {cores:g} cores: threads that share one wait for each other at "
            "every token"
        )
    for kind, binary in dict.fromkeys((cell.engine.kind, cell.engine.program) for cell in cells):
        engine = profile.engine(kind, binary)
        for match in engine.matches if engine is not None and engine.problem is None else ():
            device = profile.device(match.device_id)
            if device.excluded is None and match.name is None:
                found.append(f"{device.id} ({device.name}) is not used by {kind}: {match.how}")
            elif device.excluded is None and not match.sure:
                found.append(f"{device.id} is taken to be {match.listed_as} of {kind}: {match.how}")
    return found


def verdicts_for(cell: Cell, profile: NodeProfile) -> dict[str, Verdict]:
    """For each place that would serve the cell, whether it fits there."""
    return {place_id: _verdict(cell, profile, place) for place_id, place in serving_places(cell, profile).items()}


def _verdict(cell: Cell, profile: NodeProfile, place: ServingPlace) -> Verdict:
    model, engine = cell.model, cell.engine
    if not isinstance(model, FileModel):
        return SERVED_ELSEWHERE
    return verdict_on(model.footprints, model.file_bytes, profile, place, engine)


@dataclass(frozen=True, slots=True)
class Offer:
    """What a node brings to a sweep.

    Attributes:
        slots: the places that serve at least one cell.
        verdicts: cell id and place id to the verdict, for the places that would serve the cell.
        classes: the same to the hardware class, which has the backend of the cell's engine in it.
        unserved: cell id to why the node cannot serve it at all.
        programs: cell id to the engine and build that would serve it; without those whose build is not known.
    """

    slots: tuple[Slot, ...]
    verdicts: dict[str, dict[str, Verdict]]
    classes: dict[str, dict[str, str]]
    unserved: dict[str, str]
    programs: dict[str, str]


def offer_of(node_id: str, profile: NodeProfile, cells: Sequence[Cell]) -> Offer:
    """What the node can do for these cells."""
    verdicts: dict[str, dict[str, Verdict]] = {}
    classes: dict[str, dict[str, str]] = {}
    unserved: dict[str, str] = {}
    programs: dict[str, str] = {}
    used: dict[str, ServingPlace] = {}
    for cell in cells:
        places = serving_places(cell, profile)
        verdicts[cell.cell_id] = {place_id: _verdict(cell, profile, place) for place_id, place in places.items()}
        classes[cell.cell_id] = {place_id: place.hardware_class(profile) for place_id, place in places.items()}
        used |= places
        if (engine := engine_of(cell, profile)) is not None and engine.build is not None:
            programs[cell.cell_id] = f"{engine.kind} ({engine.build})"
        if (why := why_not_served(cell, profile)) is not None:
            unserved[cell.cell_id] = why
    slots = tuple(_slot(node_id, profile, place) for place in sorted(used.values(), key=lambda p: p.order(profile)))
    return Offer(slots, verdicts, classes, unserved, programs)


def _slot(node_id: str, profile: NodeProfile, place: ServingPlace) -> Slot:
    if place.provider is not None:
        return Slot((node_id, place.place_id), profile.hostname, place.hardware_class(profile), elsewhere=True)
    hardware = hardware_class(profile, place.devices).id
    devices = tuple(device.id for device in place.devices)
    return Slot((node_id, place.place_id), profile.hostname, hardware, place.bandwidth_bytes_per_s, devices)


def overlaps(plan: Plan, devices: Sequence[Device]) -> bool:
    """Whether grading may run while the next answer is generated: by default unless a CPU does the generating."""
    return plan.overlap_grading == "always" or (
        plan.overlap_grading == "auto" and all(device.is_gpu for device in devices)
    )


def _with_binary(engine: EngineSettings, found: FoundEngine | None) -> EngineSettings:
    """The settings with the program that was found on the node, which is the one that was asked for its devices."""
    return engine if found is None or found.path is None else engine.with_program(found.path)


def to_cell_order(
    plan: Plan,
    cell: Cell,
    lease: ev.StartLease,
    *,
    run_id: str,
    profile: NodeProfile,
    exams: Mapping[str, bytes] | None = None,
) -> CellOrder:
    """What the agent of the node is told about a lease; `exams` has those that are not ours, packed."""
    place = serving_places(cell, profile)[lease.place_id]
    found = engine_of(cell, profile)
    footprint = footprint_on(cell.model.footprints, place, cell.engine) if isinstance(cell.model, FileModel) else None
    return CellOrder(
        run_id=run_id,
        sweep=plan.name,
        lease_id=lease.lease_id,
        cell=replace(cell, engine=_with_binary(cell.engine, found)),
        place=Place(
            devices=tuple(device.id for device in place.devices),
            endpoint=place.place_id if place.provider is not None else "",
            engine_device=place.engine_device or None,
            tensor_split=place.tensor_split(cell.engine),
            visible=place.visible,
            backend=place.backend,
            device_match=place.match.how if place.match is not None else None,
            unmatched=tuple(unmatched_devices(cell, profile)),
            hardware_class=place.hardware_class(profile),
            predicted_bytes=footprint.peak_bytes if footprint is not None else None,
            memory_bytes=place.memory_total_bytes,
            bandwidth_bytes_per_s=place.bandwidth_of(cell.engine),
        ),
        scoring=plan.scoring,
        generation_timeout_s=plan.limits.generation_timeout_s,
        overlap_grading=overlaps(plan, place.computes or place.devices),
        reloads=plan.limits.retries,
        exams=dict(exams or {}),
    )
