"""What a machine is: the frozen records that probes fill, placement reads and rows name.

A figure that could not be had is ``None`` and a :class:`Notice` says why; it is never guessed and never 0.
Every record turns into plain JSON with ``to_dict`` and back with ``from_dict``; unknown keys are ignored, so that a
newer node can talk to an older driver.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DeviceKind = Literal["discrete", "unified", "cpu"]
"""``discrete``: memory of its own. ``unified``: a GPU that lives in the machine's RAM. ``cpu``: the processor."""

Vendor = Literal["nvidia", "amd", "intel", "apple", "cpu", "unknown"]


@dataclass(frozen=True, slots=True)
class Record:
    """The JSON form that all records share."""

    _NESTED: ClassVar[dict[str, type[Record]]] = {}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: tuples become lists, records become objects."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`; unknown keys are ignored.

        Raises:
            TypeError: a field without a default is missing.
        """
        known = {f.name: data[f.name] for f in dataclasses.fields(cls) if f.name in data}
        for name, value in known.items():
            if isinstance(value, list | tuple):
                nested = cls._NESTED.get(name)
                known[name] = tuple(value if nested is None else (nested.from_dict(item) for item in value))
        return cls(**known)


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Mapping):
        return dict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


@dataclass(frozen=True, slots=True)
class Notice(Record):
    """A named warning: something that a probe could not learn, or that will spoil a measurement.

    ``code`` is stable (``nvml-missing``, ``governor-powersave``) and may be tested for; ``message`` is for a person
    and says what to do. ``device_id`` is set when it is about one device.
    """

    code: str
    message: str
    device_id: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceProcess(Record):
    """A process that holds memory of a device. ``memory_bytes`` is None where the driver will not tell."""

    pid: int
    name: str | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Device(Record):
    """One place where a model can live: a GPU, unified memory, or the CPU with its RAM.

    ``id`` is unique on its node and stable while the machine is up: ``cpu``, ``nvidia-0``, ``amd-1``.
    ``memory_free_bytes`` is what a new process may take now, already less ``reserved_bytes`` (an override: memory to
    leave free). A device whose memory is None must not be scheduled onto. ``excluded`` says why an override leaves
    the device alone (None: it does not).
    """

    _NESTED: ClassVar[dict[str, type[Record]]] = {"processes": DeviceProcess}

    id: str
    vendor: Vendor
    name: str
    kind: DeviceKind
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    bandwidth_bytes_per_s: float | None = None
    bandwidth_source: str | None = None
    driver: str | None = None
    compute_capability: str | None = None
    pci_id: str | None = None
    uuid: str | None = None
    index: int | None = None
    power_limit_w: float | None = None
    # Part of memory_total_bytes that is carved out or on board, and the part that is the machine's RAM mapped by the
    # GPU.
    vram_total_bytes: int | None = None
    gtt_total_bytes: int | None = None
    # Where its counters are read, for drivers that are folders of files: /sys/class/drm/card1/device.
    sysfs_path: str | None = None
    processes: tuple[DeviceProcess, ...] = ()
    reserved_bytes: int = 0
    excluded: str | None = None

    @property
    def is_gpu(self) -> bool:
        """True for anything but the CPU."""
        return self.kind != "cpu"

    @property
    def usable(self) -> bool:
        """True when a model may be placed here: the memory is known and nobody asked to leave it alone."""
        return self.excluded is None and self.memory_total_bytes is not None and self.memory_free_bytes is not None


@dataclass(frozen=True, slots=True)
class EngineDevice(Record):
    """A device as an engine lists it (``CUDA0``): the name that goes into the engine's own device flag."""

    name: str
    description: str
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    # Where the engine tells its PCI address; and the UUID that it was started with, when it listed this one alone.
    pci_id: str | None = None
    uuid: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceMatch(Record):
    """What an engine calls a GPU of this machine, and how that is known.

    ``name`` goes into the engine's device flag while it is started with the variables of ``visible`` (``NAME=value``);
    ``listed_as`` is what it is called without them. Where ``name`` is None the engine has no such device, or which it
    is cannot be told: ``how`` says why, and nothing is placed there. ``sure`` is False for equal cards whose order is
    assumed.
    """

    device_id: str
    name: str | None = None
    backend: str | None = None
    how: str = ""
    sure: bool = True
    listed_as: str | None = None
    visible: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundEngine(Record):
    """An engine on this node: ``llama-server``, ``ollama`` or ``embedded``; ``build`` as the engine prints it.

    ``origin`` says who named the program (``PATH``, ``LLAMA_SERVER``, ``engine.binary`` ...). With a ``problem`` it
    cannot be used, and that is why. ``named`` is what a spec calls it (``engine.binary``), None for the machine's own.
    """

    _NESTED: ClassVar[dict[str, type[Record]]] = {"devices": EngineDevice, "matches": DeviceMatch}

    kind: str
    path: str | None = None
    build: str | None = None
    devices: tuple[EngineDevice, ...] = ()
    matches: tuple[DeviceMatch, ...] = ()
    origin: str | None = None
    problem: str | None = None
    named: str | None = None

    def match(self, device_id: str) -> DeviceMatch | None:
        """What it calls that device, None for one that it was not held against (the CPU)."""
        return next((match for match in self.matches if match.device_id == device_id), None)

    def listed(self, match: DeviceMatch, device: Device) -> EngineDevice | None:
        """What it lists for the matched device; under a UUID each is the first of its backend."""
        named = [each for each in self.devices if each.name == match.listed_as]
        return next((each for each in named if each.uuid in {None, device.uuid}), None)


@dataclass(frozen=True, slots=True)
class FoundTool(Record):
    """A program that grading needs (``bwrap``, ``go``, ``node``, ``chromium``, ``cc``) or that answers fit questions.

    ``version`` is its own first line, None where it was not asked.
    """

    name: str
    path: str
    version: str | None = None


@dataclass(frozen=True, slots=True)
class FoundNeed(Record):
    """Something that an exam needs (`profiles.probe.needs`), as it was tried on this machine.

    ``what`` is it in words. ``found`` is what is there, in a line; None where it is missing: then ``problem`` says why
    and ``cure`` is the command that mends it.
    """

    name: str
    what: str
    found: str | None = None
    problem: str | None = None
    cure: str | None = None

    @property
    def sentence(self) -> str:
        """What is missing and how to mend it; empty where nothing is."""
        return "" if self.found is not None else f"{self.what} is missing ({self.problem}); mend it with: {self.cure}"


@dataclass(frozen=True, slots=True)
class NodeProfile(Record):
    """One machine, as seen at ``probed_at`` (ISO 8601, UTC).

    RAM and cores are those that a process of ours may use: a container's limit counts, and ``ram_limit`` names where
    it came from (None: the host's own size). ``cores_usable`` may be a fraction (a quota of 1.5 cores).
    """

    _NESTED: ClassVar[dict[str, type[Record]]] = {
        "devices": Device,
        "engines": FoundEngine,
        "tools": FoundTool,
        "needs": FoundNeed,
        "warnings": Notice,
    }

    hostname: str
    os: str
    arch: str
    probed_at: str
    cpu_model: str | None = None
    cores_physical: int | None = None
    cores_logical: int | None = None
    cores_usable: float | None = None
    ram_total_bytes: int | None = None
    ram_free_bytes: int | None = None
    ram_limit: str | None = None
    swap_total_bytes: int | None = None
    swap_free_bytes: int | None = None
    governor: str | None = None
    platform_profile: str | None = None
    models_dir: str | None = None
    disk_free_bytes: int | None = None
    devices: tuple[Device, ...] = ()
    engines: tuple[FoundEngine, ...] = ()
    tools: tuple[FoundTool, ...] = ()
    # Those that were asked about.
    needs: tuple[FoundNeed, ...] = ()
    warnings: tuple[Notice, ...] = ()

    def device(self, device_id: str) -> Device:
        """The device of that id.

        Raises:
            KeyError: there is none; the message lists those there are.
        """
        for device in self.devices:
            if device.id == device_id:
                return device
        have = ", ".join(device.id for device in self.devices) or "none"
        raise KeyError(f"{self.hostname} has no device {device_id!r}; it has: {have}")

    @property
    def cpu(self) -> Device | None:
        """The CPU as a device, None where RAM could not be read."""
        return next((device for device in self.devices if device.kind == "cpu"), None)

    @property
    def gpus(self) -> tuple[Device, ...]:
        """Every device that is not the CPU."""
        return tuple(device for device in self.devices if device.is_gpu)

    def engine(self, kind: str, named: str | None = None) -> FoundEngine | None:
        """The engine of that kind: the machine's own, or the program that a spec calls ``named``; None: not there."""
        return next((engine for engine in self.engines if engine.kind == kind and engine.named == named), None)

    def need(self, name: str) -> FoundNeed | None:
        """What was found of that need, None where nobody asked."""
        return next((need for need in self.needs if need.name == name), None)

    def tool(self, name: str) -> FoundTool | None:
        """The tool of that name, None where it was not found."""
        return next((tool for tool in self.tools if tool.name == name), None)


@dataclass(frozen=True, slots=True)
class HardwareClass(Record):
    """What has to be equal for two timings to be comparable.

    The device with its memory and power limit, the backend that drives it, the processor that feeds it, the cores it
    may use where it computes itself, and the power state of the machine (a power-saving profile changes every timing).
    Driver and engine builds are columns of their own. ``id`` is a readable name and a hash: at most 63 characters of
    ``[a-z0-9.-]``, so that it can be a Ray label.
    """

    vendor: str
    device: str
    kind: DeviceKind
    memory_gib: int | None
    power_limit_w: int | None
    cpu_model: str | None
    cores: float | None
    governor: str | None
    platform_profile: str | None
    backend: str | None = None
    id: str = field(default="")

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", self._make_id())

    def _make_id(self) -> str:
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "id"}
        return _class_id(f"{self.device} {self.memory_gib or 'unknown'}g", ["hardware-class/2", fields])


def _class_id(words: str, identity: object) -> str:
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:8]
    name = re.sub(r"[^a-z0-9.]+", "-", words.lower()).strip("-.")
    return f"{name[:48].strip('-.')}-{digest}"


def endpoint_class(provider: str) -> str:
    """The class of timings of what a provider serves, as the id of a hardware class: what computes there is not known,
    so its timings are never those of a card of ours.
    """
    return _class_id(f"endpoint {provider}", ["endpoint-class/1", provider])


def hardware_class(profile: NodeProfile, devices: Sequence[Device], backend: str | None = None) -> HardwareClass:
    """The class of timings taken on ``devices`` of the machine ``profile`` by an engine with that backend.

    ``devices`` has one entry, or more where one model is spread over them: then memory and power limits add up, and
    the name says how many of which. Cores count where a device computes with them or shares its power budget with them
    (``cpu``, ``unified``); beside a discrete GPU only the processor's model counts. Memory is rounded to whole GiB,
    because what a driver keeps for itself differs from boot to boot.
    """
    first = devices[0]
    counts = Counter(device.name for device in devices)
    names = [name if count == 1 else f"{count} x {name}" for name, count in counts.items()]
    memory = _sum(device.memory_total_bytes for device in devices)
    power = _sum(device.power_limit_w for device in devices)
    return HardwareClass(
        vendor=first.vendor,
        device=" + ".join(names),
        kind=first.kind,
        memory_gib=None if memory is None else round(memory / 2**30),
        power_limit_w=None if power is None else round(power),
        cpu_model=profile.cpu_model,
        cores=profile.cores_usable if first.kind != "discrete" else None,
        governor=profile.governor,
        platform_profile=profile.platform_profile,
        backend=backend,
    )


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum, None where a summand is not known."""
    found = list(values)
    return None if None in found else sum(value for value in found if value is not None)
