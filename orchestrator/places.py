"""Where the engine of a node would serve a cell: on the CPU, on one GPU, on several together, or at an endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, islice
from math import comb
from typing import TYPE_CHECKING

from profiles.matching import hidden_on_cpu, together
from profiles.types import FoundEngine, endpoint_class, hardware_class
from quants.fit.devices import device_memory, shares_of
from quants.models import EndpointModel
from runners.engines.settings import EndpointSettings, LlamaCppSettings, of_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from profiles.types import Device, DeviceMatch, NodeProfile
    from runners.engines.settings import EngineSettings
    from runners.work import Cell

EMBEDDED = "embedded"
"""It comes with quantsweep: a node that was not asked for it is taken to have it."""
MOST_PLACES = 32
"""Ways to take some of a machine's GPUs that are looked at; beyond that, GPUs that stand side by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingPlace:
    """Devices of a node on which its engine would serve a cell, or a place in line at an endpoint.

    Attributes:
        devices: one, the GPUs that a model is spread over, in the order of the profile, or none: at an endpoint.
        engine_device: the engine's names for them, joined by commas; empty where there is none.
        backend: what computes there: `cuda`, `vulkan`, `cpu` ...; None at an endpoint.
        visible: variables, as NAME=value, under which the engine calls them that, and which hide other cards.
        match: how the engine's names were found; None for the CPU.
        provider: whose endpoint it is, None for devices; `number` counts its places from 1.
        computes: of an endpoint on the node's own loopback, the devices that it may be taken to compute on; `kind` is
            the engine that asks it.
    """

    devices: tuple[Device, ...]
    engine_device: str = ""
    backend: str | None = None
    visible: tuple[str, ...] = ()
    match: DeviceMatch | None = None
    provider: str | None = None
    number: int = 0
    computes: tuple[Device, ...] = ()
    kind: str = ""

    @property
    def place_id(self) -> str:
        """Unique on its node: the ids of its devices, joined by `+`. At an endpoint the same on every node."""
        if self.provider is not None:
            return f"{self.provider}#{self.number}"
        return "+".join(device.id for device in self.devices)

    @property
    def memory_total_bytes(self) -> int | None:
        """Of all devices together; None where one does not say, or there is none."""
        totals = [device.memory_total_bytes for device in self.devices]
        return None if not totals or None in totals else sum(total or 0 for total in totals)

    @property
    def bandwidth_bytes_per_s(self) -> float | None:
        """Of a model that is spread over the devices by layers: they read one after the other, each its part.

        None where it is not known of one, or there are none.
        """
        if not self.devices:
            return None
        known = [device.bandwidth_bytes_per_s for device in self.devices]
        shares = shares_of([device_memory(device) for device in self.devices])
        pairs = [(share, bandwidth) for share, bandwidth in zip(shares, known, strict=True) if bandwidth]
        if len(pairs) < len(known):
            return None
        return sum(shares) / sum(share / bandwidth for share, bandwidth in pairs)

    def bandwidth_of(self, engine: EngineSettings) -> float | None:
        """How fast weights are read: by rows all devices read at once, and the slowest for its share is waited for."""
        split = self.tensor_split(engine)
        if split is None or not isinstance(engine, LlamaCppSettings) or engine.split_mode != "row":
            return self.bandwidth_bytes_per_s
        known = [device.bandwidth_bytes_per_s for device in self.devices]
        if None in known:
            return None
        return min(bandwidth * sum(split) / share for share, bandwidth in zip(split, known, strict=True) if bandwidth)

    def tensor_split(self, engine: EngineSettings) -> tuple[float, ...] | None:
        """The share of a model that each device gets; None where there is one, or none."""
        if len(self.devices) < 2:
            return None
        asked = engine.tensor_split if isinstance(engine, LlamaCppSettings) else None
        return asked or shares_of([device_memory(device) for device in self.devices])

    def hardware_class(self, profile: NodeProfile) -> str:
        """Places whose timings may be compared: those of an endpoint with each other, on whichever node; of one on the
        node's own loopback, with equal machines only.
        """
        if self.computes:
            return hardware_class(profile, self.computes, self.kind).id
        if self.provider is not None:
            return endpoint_class(self.provider)
        return hardware_class(profile, self.devices, self.backend).id

    def order(self, profile: NodeProfile) -> tuple[int, tuple[int, ...]]:
        """Single devices first, in the order of the profile; in front of them the places of endpoints."""
        ids = [device.id for device in profile.devices]
        return len(self.devices), tuple(ids.index(device.id) for device in self.devices)


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
    if serving_places(cell, profile):
        return None
    if (too_few := _too_few(cell, profile)) is not None:
        return too_few
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
    if engine is None or isinstance(cell.model, EndpointModel):
        return []
    matches = [(device, engine.match(device.id)) for device in profile.gpus if device.excluded is None]
    return [
        f"{device.id} ({device.name}): {_why_unmatched(match)}"
        for device, match in matches
        if match is None or match.name is None
    ]


def serving_places(cell: Cell, profile: NodeProfile) -> dict[str, ServingPlace]:
    """The places on which the node's engine would serve the cell, by their id.

    GPUs that the engine knows, as many of them together as the spec says (`devices`). The CPU where the spec asks for
    it (`gpu_layers = 0`), or the machine has no GPU. Of an endpoint as many as it may be asked at once.
    """
    engine = engine_of(cell, profile)
    if engine is None or engine.problem is not None:
        return {}
    if isinstance(cell.model, EndpointModel):
        provider, most = cell.model.provider, of_kind(cell.engine, EndpointSettings).places
        computes = _local_devices(profile) if of_kind(cell.engine, EndpointSettings).is_local else ()
        if computes:  # the same address is another server on another node
            provider = f"{provider}@{profile.hostname}"
        line = [
            ServingPlace(devices=(), provider=provider, number=number, computes=computes, kind=cell.engine.kind)
            for number in range(1, most + 1)
        ]
        return {place.place_id: place for place in line}
    cpu = {
        device.id: ServingPlace(
            devices=(device,), engine_device="CPU", backend="cpu", visible=hidden_on_cpu(engine.devices)
        )
        for device in profile.devices
        if device.usable and device.kind == "cpu"
    }
    if cell.engine.asks_for_cpu:
        return cpu
    able = _able(engine, profile)
    wanted = cell.engine.devices if isinstance(cell.engine, LlamaCppSettings) else None
    if not able and not any(_is_to_be_used(device) for device in profile.gpus):
        return cpu if wanted in {None, 1, "all"} else {}
    found = [_spread_over(engine, devices) for devices in _groups(able, wanted, engine)]
    return {place.place_id: place for place in found if place is not None}


def _local_devices(profile: NodeProfile) -> tuple[Device, ...]:
    """What a server of the node's own may compute on: its GPUs, or the CPU where it has none."""
    gpus = [device for device in profile.gpus if device.usable]
    return tuple(gpus or [device for device in profile.devices if device.kind == "cpu"])


def _able(engine: FoundEngine, profile: NodeProfile) -> list[Device]:
    """The GPUs that may be used and that the engine has a name for."""
    matches = {device.id: engine.match(device.id) for device in profile.gpus if device.usable}
    return [device for device in profile.gpus if (match := matches.get(device.id)) is not None and match.name]


def _groups(able: Sequence[Device], wanted: int | str | None, engine: FoundEngine) -> list[tuple[Device, ...]]:
    """Which devices may be taken together, if `wanted` of them (or "all") serve one model."""
    if wanted is None or wanted == 1:
        return [(device,) for device in able]
    groups: list[tuple[Device, ...]] = []
    by_backend: dict[str | None, list[Device]] = {}
    for device in able:
        match = engine.match(device.id)
        by_backend.setdefault(match.backend if match else None, []).append(device)
    for devices in by_backend.values():
        if wanted == "all":
            separate = [device for device in devices if device.kind == "discrete"]
            groups.append(tuple(separate or devices))
        elif isinstance(wanted, int):
            separate = [device for device in devices if device.kind == "discrete"]
            if comb(len(separate), wanted) <= MOST_PLACES:
                groups += combinations(separate, wanted)
            else:
                groups += [tuple(separate[at : at + wanted]) for at in range(0, len(separate) - wanted + 1, wanted)]
    return groups


def _spread_over(engine: FoundEngine, devices: tuple[Device, ...]) -> ServingPlace | None:
    """The devices together as a place; None if one server cannot have them all."""
    matches = [match for device in devices if (match := engine.match(device.id)) is not None]
    found = together(matches, devices)
    if isinstance(found, str):
        return None
    return ServingPlace(
        devices=devices, engine_device=found.name or "", backend=found.backend, visible=found.visible, match=found
    )


def _too_few(cell: Cell, profile: NodeProfile) -> str | None:
    """Why there are not as many GPUs for one model as the spec wants, as a sentence; None if that is not what lacks."""
    engine = engine_of(cell, profile)
    wanted = cell.engine.devices if isinstance(cell.engine, LlamaCppSettings) else None
    if engine is None or not isinstance(wanted, int) or wanted == 1:
        return None
    able = _able(engine, profile)
    if not able and not any(_is_to_be_used(device) for device in profile.gpus):
        return f"engine.devices = {wanted} needs GPUs, and {profile.hostname} has none; leave it out"
    if not able:
        return None
    said = "; ".join(
        dict.fromkeys(
            found
            for group in islice(combinations(able, min(wanted, len(able))), MOST_PLACES)
            if isinstance(found := together([m for d in group if (m := engine.match(d.id)) is not None], group), str)
        )
    )
    names = ", ".join(f"{device.id} ({device.name})" for device in able)
    return (
        f"engine.devices = {wanted} needs as many GPUs of {profile.hostname} that one server can use together; "
        f"{cell.engine.kind} has {names}{': ' + said if said else ''}; take fewer, or leave engine.devices out"
    )


def _is_to_be_used(device: Device) -> bool:
    """Whether this makes the machine one with a GPU: graphics inside a processor whose memory nothing tells do not."""
    return device.excluded is None and (device.usable or device.kind == "discrete")


def _why_unmatched(match: DeviceMatch | None) -> str:
    return "it was not asked about it" if match is None else match.how
