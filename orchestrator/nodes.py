"""From a node's profile to what can be leased there: the device an engine would use, and the verdict for each cell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.fitting import predicted_bytes, verdict_on
from orchestrator.placement import Slot
from profiles.matching import hidden_on_cpu
from profiles.types import Device, FoundEngine, NodeProfile, hardware_class
from quants.models import EndpointModel, FileModel
from runners.orders import CellOrder, Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator import events as ev
    from orchestrator.plan import Plan
    from profiles.types import DeviceMatch
    from quants.fit.verdict import Verdict
    from runners.engines.settings import EngineSettings
    from runners.work import Cell

EMBEDDED = "embedded"
"""It comes with quantsweep: a node that was not asked for it is taken to have it."""


def named_binaries(cells: Iterable[Cell]) -> tuple[str, ...]:
    """The engine programs that a spec names: a node is asked for these as well."""
    return tuple(dict.fromkeys(cell.engine.program for cell in cells if cell.engine.program is not None))


def engine_of(cell: Cell, profile: NodeProfile) -> FoundEngine | None:
    """The node's engine for the cell: of its kind, and the program that the spec names if it names one."""
    found = profile.engine(cell.engine.kind, cell.engine.program)
    return FoundEngine(EMBEDDED) if found is None and cell.engine.kind == EMBEDDED else found


def why_not_served(cell: Cell, profile: NodeProfile) -> str | None:
    """Why the node cannot serve the cell, and the way out, as a sentence; None where it can.

    An engine that does not know the machine's GPU is a reason: nothing computes on the CPU beside a GPU unless the spec
    says `gpu_layers = 0`.
    """
    engine = engine_of(cell, profile)
    kind = cell.engine.kind
    if engine is None:
        return f"{kind} is not on {profile.hostname}"
    if engine.problem is not None:
        return engine.problem
    if serving_devices(cell, profile):
        return None
    gpus = [device for device in profile.gpus if _is_to_be_used(device)]
    if not gpus or cell.engine.asks_for_cpu:
        return f"{profile.hostname} has no device that may be used"
    said = []
    for device in gpus:
        match = engine.match(device.id)
        why = "its memory is not known" if match is not None and match.name is not None else _why_unmatched(match)
        said.append(f"{device.id} ({device.name}): {why}")
    way_out = f"{_other_engine(kind, gpus, profile)}, or set engine.gpu_layers = 0 to compute on the CPU"
    return f"{kind} cannot be given a GPU of {profile.hostname}: {'; '.join(said)}; {way_out}"


def _other_engine(kind: str, gpus: Sequence[Device], profile: NodeProfile) -> str:
    """What to do for a GPU: the node's engine that knows one, else where to get one."""
    for engine in profile.engines:
        matches = [engine.match(device.id) for device in gpus if device.usable]
        if engine.kind != kind and engine.named is None and any(match and match.name for match in matches):
            return f'set engine.kind = "{engine.kind}", which knows it'
    return "use a build of llama.cpp that knows it (`quantsweep doctor` tries those that are here)"


def unmatched_devices(cell: Cell, profile: NodeProfile) -> list[str]:
    """The GPUs of the node that the cell's engine does not know, each with the reason, for the row."""
    engine = engine_of(cell, profile)
    if engine is None:
        return []
    matches = [(device, engine.match(device.id)) for device in profile.gpus if device.excluded is None]
    return [
        f"{device.id} ({device.name}): {_why_unmatched(match)}"
        for device, match in matches
        if match is None or match.name is None
    ]


def serving_devices(cell: Cell, profile: NodeProfile) -> dict[str, str | None]:
    """The devices on which the node's engine would serve the cell, with the engine's names for them.

    GPUs that the engine knows. The CPU where the spec asks for it (`gpu_layers = 0`), or the machine has no GPU.
    """
    engine = engine_of(cell, profile)
    if engine is None or engine.problem is not None:
        return {}
    cpu: dict[str, str | None] = {d.id: "CPU" for d in profile.devices if d.usable and d.kind == "cpu"}
    if cell.engine.asks_for_cpu:
        return cpu
    matches = {device.id: engine.match(device.id) for device in profile.gpus if device.usable}
    named: dict[str, str | None] = {key: found.name for key, found in matches.items() if found and found.name}
    if named or any(_is_to_be_used(device) for device in profile.gpus):
        return named
    return cpu


def _is_to_be_used(device: Device) -> bool:
    """Whether this makes the machine one with a GPU: graphics inside a processor whose memory nothing tells do not."""
    return device.excluded is None and (device.usable or device.kind == "discrete")


def _why_unmatched(match: DeviceMatch | None) -> str:
    return "it was not asked about it" if match is None else match.how


def backend_on(cell: Cell, profile: NodeProfile, device_id: str) -> str | None:
    """What computes where the cell is served from that device: `cuda`, `vulkan`, `cpu` ...; None if it is not."""
    engine = engine_of(cell, profile)
    match = engine.match(device_id) if engine is not None else None
    return "cpu" if match is None or cell.engine.asks_for_cpu else match.backend


def class_of(cell: Cell, profile: NodeProfile, device_id: str) -> str:
    """The hardware class of what the cell's engine does on that device."""
    return hardware_class(profile, profile.device(device_id), backend_on(cell, profile, device_id)).id


def remarks(profile: NodeProfile, cells: Sequence[Cell]) -> list[str]:
    """What has to be said of the node's GPUs before it serves these cells: those that an engine cannot be given."""
    found = []
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
    """For each device that would serve the cell, whether it fits there."""
    model = cell.model
    if isinstance(model, EndpointModel):
        return {}  # it needs no device of ours
    return {
        device_id: verdict_on(model.footprints, model.file_bytes, profile, profile.device(device_id), name)
        for device_id, name in serving_devices(cell, profile).items()
    }


@dataclass(frozen=True, slots=True)
class Offer:
    """What a node brings to a sweep.

    Attributes:
        slots: the devices that serve at least one cell.
        verdicts: cell id and device id to the verdict, for the devices that would serve the cell.
        classes: the same to the hardware class, which has the backend of the cell's engine in it.
        unserved: cell id to why the node cannot serve it at all.
    """

    slots: tuple[Slot, ...]
    verdicts: dict[str, dict[str, Verdict]]
    classes: dict[str, dict[str, str]]
    unserved: dict[str, str]


def offer_of(node_id: str, profile: NodeProfile, cells: Sequence[Cell]) -> Offer:
    """What the node can do for these cells."""
    verdicts: dict[str, dict[str, Verdict]] = {}
    classes: dict[str, dict[str, str]] = {}
    unserved: dict[str, str] = {}
    used: set[str] = set()
    for cell in cells:
        verdicts[cell.cell_id] = verdicts_for(cell, profile)
        classes[cell.cell_id] = {id_: class_of(cell, profile, id_) for id_ in verdicts[cell.cell_id]}
        used |= verdicts[cell.cell_id].keys()
        if (why := why_not_served(cell, profile)) is not None:
            unserved[cell.cell_id] = why
    slots = tuple(
        Slot((node_id, device.id), profile.hostname, hardware_class(profile, device).id, device.bandwidth_bytes_per_s)
        for device in profile.devices
        if device.id in used
    )
    return Offer(slots, verdicts, classes, unserved)


def overlaps(plan: Plan, device: Device) -> bool:
    """Whether grading may run while the next answer is generated: by default only where a GPU does the generating."""
    return plan.overlap_grading == "always" or (plan.overlap_grading == "auto" and device.is_gpu)


def _with_binary(engine: EngineSettings, found: FoundEngine | None) -> EngineSettings:
    """The settings with the program that was found on the node, which is the one that was asked for its devices."""
    return engine if found is None or found.path is None else engine.with_program(found.path)


def to_cell_order(plan: Plan, cell: Cell, lease: ev.StartLease, *, run_id: str, profile: NodeProfile) -> CellOrder:
    """What the agent of the node is told about a lease."""
    device = profile.device(lease.device_id)
    name = serving_devices(cell, profile).get(lease.device_id)
    found = engine_of(cell, profile)
    match = found.match(lease.device_id) if found is not None else None
    visible = match.visible if match is not None and name != "CPU" else ()
    predicted = predicted_bytes(cell.model.footprints, name) if isinstance(cell.model, FileModel) else None
    return CellOrder(
        run_id=run_id,
        sweep=plan.name,
        lease_id=lease.lease_id,
        cell=replace(cell, engine=_with_binary(cell.engine, found)),
        place=Place(
            device_id=lease.device_id,
            engine_device=name,
            visible=hidden_on_cpu(found.devices) if found is not None and name == "CPU" else visible,
            backend=backend_on(cell, profile, lease.device_id),
            device_match=match.how if match is not None and name != "CPU" else None,
            unmatched=tuple(unmatched_devices(cell, profile)),
            hardware_class=class_of(cell, profile, lease.device_id),
            predicted_bytes=predicted,
            memory_bytes=device.memory_total_bytes if device is not None else None,
            bandwidth_bytes_per_s=device.bandwidth_bytes_per_s if device is not None else None,
        ),
        scoring=plan.scoring,
        generation_timeout_s=plan.limits.generation_timeout_s,
        overlap_grading=device is not None and overlaps(plan, device),
        reloads=plan.limits.retries,
    )
