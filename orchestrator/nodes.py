"""From a node's profile to what can be leased there: the device an engine would use, and the verdict for each cell."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.fitting import predicted_bytes, verdict_on
from orchestrator.placement import Slot
from profiles.types import Device, NodeProfile, hardware_class
from runners.orders import CellOrder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator import events as ev
    from orchestrator.plan import Cell, Plan
    from quants.fit import Verdict
    from runners.engines.base import EngineSettings

EMBEDDED = "embedded"


def engine_is_there(cell: Cell, profile: NodeProfile) -> bool:
    """Whether the node has the cell's engine: the embedded one comes with quantsweep, a named binary is tried."""
    return (
        cell.engine.kind == EMBEDDED or cell.engine.binary is not None or profile.engine(cell.engine.kind) is not None
    )


def engine_device_names(kind: str, profile: NodeProfile) -> dict[str, str]:
    """Device id to the name by which the engine knows it.

    CUDA numbers cards in the order of NVML (`CUDA_DEVICE_ORDER=PCI_BUS_ID` is set for engines); other backends are
    matched by the card's name. An engine that lists no device computes on the CPU.
    """
    engine = profile.engine(kind)
    listed = engine.devices if engine else ()
    names: dict[str, str] = {}
    taken: set[str] = set()
    for device in profile.gpus:
        for candidate in listed:
            is_cuda = device.vendor == "nvidia" and candidate.name == f"CUDA{device.index}"
            is_named = device.name.lower() in candidate.description.lower()
            if candidate.name not in taken and (is_cuda or is_named):
                names[device.id] = candidate.name
                taken.add(candidate.name)
                break
    return names


def serving_devices(cell: Cell, profile: NodeProfile) -> dict[str, str | None]:
    """The devices on which the node's engine would serve the cell, with the engine's names for them.

    GPUs where the engine knows them, else the CPU: a machine with a card is not asked to compute beside it.
    """
    if not engine_is_there(cell, profile):
        return {}
    usable = {device.id for device in profile.devices if device.usable}
    named = {key: name for key, name in engine_device_names(cell.engine.kind, profile).items() if key in usable}
    if named and cell.engine.gpu_layers != 0:
        return dict(named)
    return {device.id: "CPU" for device in profile.devices if device.id in usable and device.kind == "cpu"}


def verdicts_for(cell: Cell, profile: NodeProfile) -> dict[str, Verdict]:
    """For each device that would serve the cell, whether it fits there."""
    return {
        device_id: verdict_on(cell.footprints, cell.artifact.file_bytes, profile, profile.device(device_id), name)
        for device_id, name in serving_devices(cell, profile).items()
    }


def offer_slots(
    node_id: str, profile: NodeProfile, cells: Sequence[Cell]
) -> tuple[tuple[Slot, ...], dict[str, dict[str, Verdict]]]:
    """The node's slots, and for each cell the verdict on those that would serve it."""
    verdicts: dict[str, dict[str, Verdict]] = {}
    used: set[str] = set()
    for cell in cells:
        verdicts[cell.cell_id] = verdicts_for(cell, profile)
        used |= verdicts[cell.cell_id].keys()
    slots = tuple(
        Slot(
            (node_id, device.id),
            profile.hostname,
            hardware_class(profile, device).id,
            device.bandwidth_bytes_per_s,
        )
        for device in profile.devices
        if device.id in used
    )
    return slots, verdicts


def overlaps(plan: Plan, device: Device) -> bool:
    """Whether grading may run while the next answer is generated: by default only where a GPU does the generating."""
    return plan.overlap_grading == "always" or (plan.overlap_grading == "auto" and device.is_gpu)


def _with_binary(engine: EngineSettings, profile: NodeProfile | None) -> EngineSettings:
    """The settings with the program that was found on the node (or its override file names), if the spec names none."""
    found = profile.engine(engine.kind) if profile else None
    if engine.binary is not None or found is None or found.path is None:
        return engine
    return replace(engine, binary=found.path)


def to_cell_order(
    plan: Plan, cell: Cell, lease: ev.StartLease, *, run_id: str, profile: NodeProfile | None
) -> CellOrder:
    """What the agent of the node is told about a lease. Without a profile (the node is gone) it only names things."""
    device = profile.device(lease.device_id) if profile else None
    names = serving_devices(cell, profile) if profile else {}
    return CellOrder(
        run_id=run_id,
        sweep=plan.name,
        lease_id=lease.lease_id,
        cell_id=cell.cell_id,
        model=cell.model,
        variant=cell.variant,
        artifact=cell.artifact,
        engine=_with_binary(cell.engine, profile),
        sampling=cell.sampling,
        scoring=plan.scoring,
        generation_timeout_s=plan.limits.generation_timeout_s,
        device_id=lease.device_id,
        engine_device=names.get(lease.device_id),
        hardware_class=hardware_class(profile, device).id if profile and device else "unknown",
        predicted_bytes=predicted_bytes(cell.footprints, names.get(lease.device_id)),
        overlap_grading=bool(device) and overlaps(plan, device) if device else False,
        reloads=plan.limits.retries,
    )
