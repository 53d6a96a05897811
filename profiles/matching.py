"""Which of an engine's devices is which card of this machine: a pure function over what both lists say.

What proves it comes first: a UUID that the engine was started with, or a PCI address that it tells. Else the names are
held against each other, whole before in part, and only where no other card could be meant. A card that is not found is
told with the reason, and no other is taken for it: "RTX 4070" is a part of "RTX 4070 Ti", and another card.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from profiles.backends import BY_UUID, HIDES, ONLY_VENDOR, PREFERENCE, backend_of_name
from profiles.catalogue import is_product, product_words
from profiles.types import DeviceMatch

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from profiles.types import Device, EngineDevice

MEMORY_TOLERANCE: Final = 0.1
"""How far two figures for the memory of one card lie apart at most: drivers keep some of it to themselves."""

_BRACKETS: Final = re.compile(r"\((?!R\)|TM\)|C\))([^()]*)\)", re.IGNORECASE)
_MARKS: Final = re.compile(r"\((?:R|TM|C)\)", re.IGNORECASE)
_VENDOR_WORDS: Final = (
    ("nvidia", re.compile(r"\b(nvidia|geforce|quadro|tesla)\b", re.IGNORECASE)),
    ("amd", re.compile(r"\b(amd|radeon|instinct|radv)\b", re.IGNORECASE)),
    ("intel", re.compile(r"\bintel\b|\barc\b", re.IGNORECASE)),
    ("apple", re.compile(r"\bapple\b", re.IGNORECASE)),
)
_SOFTWARE: Final = re.compile(r"llvmpipe|lavapipe|swiftshader", re.IGNORECASE)
# What Mesa calls AMD's chips (RADV's names of devices) and the instruction set that the compute driver tells of them.
_CHIPS: Final = {
    "vega10": "gfx900",
    "raven": "gfx902",
    "vega20": "gfx906",
    "raven2": "gfx909",
    "renoir": "gfx90c",
    "navi10": "gfx1010",
    "navi12": "gfx1011",
    "navi14": "gfx1012",
    "navi21": "gfx1030",
    "navi22": "gfx1031",
    "navi23": "gfx1032",
    "vangogh": "gfx1033",
    "navi24": "gfx1034",
    "rembrandt": "gfx1035",
    "raphael_mendocino": "gfx1036",
    "navi31": "gfx1100",
    "navi32": "gfx1101",
    "navi33": "gfx1102",
    "phoenix": "gfx1103",
    "phoenix2": "gfx1103",
    "navi44": "gfx1200",
    "navi48": "gfx1201",
}


@dataclass(frozen=True, slots=True)
class _Found:
    entry: EngineDevice
    how: str
    sure: bool = True


@dataclass(slots=True)
class _Pairing:
    """The cards and the entries of one backend that are not told apart yet, and those that are."""

    backend: str
    devices: list[Device]
    entries: list[EngineDevice]
    found: dict[str, _Found] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)

    def by(
        self,
        how: str,
        of_device: Callable[[Device], Hashable],
        of_entry: Callable[[EngineDevice], Hashable],
        *,
        several: bool = True,
    ) -> None:
        """Pairs cards and entries with equal keys; several with one key in their order, or (`several`) not yet."""
        for key in dict.fromkeys(of_device(device) for device in self.devices):
            if not key:
                continue
            devices = [device for device in self.devices if of_device(device) == key]
            entries = [each for each in self.entries if of_entry(each) == key and self._any_could_be(devices, each)]
            if not entries:
                continue
            if len(devices) == len(entries) == 1:
                self._pair(devices[0], _Found(entries[0], how))
            elif several:
                self._by_order(devices, entries, how)

    def _by_order(self, devices: list[Device], entries: list[EngineDevice], how: str) -> None:
        """Equal cards. CUDA numbers those it sees as NVML does; of other backends the order is an assumption."""
        if len(devices) != len(entries):
            named = ", ".join(each.name for each in entries)
            why = f"{len(devices)} equal cards, of which it lists {len(entries)} ({named}): which is not known"
            self.doubts |= {device.id: why for device in devices}
            self._drop(devices, entries)
            return
        sure = self.backend == "cuda"
        said = f"{how}, equal cards in their order" + ("" if sure else ", which is assumed")
        for device, entry in zip(sorted(devices, key=_place), entries, strict=True):
            self._pair(device, _Found(entry, said, sure))

    def by_memory(self) -> None:
        """Pairs a card with the one entry that has as much memory as it, where it is the only such card."""
        pairs = [(d, e) for d in self.devices for e in self.entries if _same_memory(d, e) and self.could_be(d, e)]
        for device, entry in pairs:
            if sum(d is device for d, _ in pairs) == sum(e is entry for _, e in pairs) == 1:
                self._pair(device, _Found(entry, "by its memory"))

    def by_elimination(self) -> None:
        """A vendor's only card that is left, and the only entry of that vendor that is left."""
        for vendor in dict.fromkeys(device.vendor for device in self.devices):
            devices = [device for device in self.devices if device.vendor == vendor]
            entries = [each for each in self.entries if self._any_could_be(devices, each)]
            if len(devices) == len(entries) == 1:
                self._pair(devices[0], _Found(entries[0], "the only one left"))
            elif entries and len({device.name for device in devices}) == len({e.description for e in entries}) == 1:
                self._by_order(devices, entries, "by its vendor")

    def could_be(self, device: Device, entry: EngineDevice) -> bool:
        """Whether nothing that is known of both speaks against it."""
        if entry.uuid and device.uuid and entry.uuid != device.uuid:
            return False
        if entry.pci_id and device.pci_id and entry.pci_id != device.pci_id:
            return False
        said = ONLY_VENDOR.get(self.backend) or vendor_of(entry.description)
        if said is not None and device.vendor not in {said, "unknown"}:
            return False
        ours, theirs = _words(device.name), _words(entry.description)
        if ours != theirs and is_product(ours) and is_product(theirs):
            return False
        known = device.kind == "discrete" and device.memory_total_bytes and entry.memory_total_bytes
        return not known or _same_memory(device, entry)

    def _any_could_be(self, devices: list[Device], entry: EngineDevice) -> bool:
        return any(self.could_be(device, entry) for device in devices)

    def _pair(self, device: Device, found: _Found) -> None:
        self.found[device.id] = found
        self._drop([device], [found.entry])

    def _drop(self, devices: list[Device], entries: list[EngineDevice]) -> None:
        self.devices = [each for each in self.devices if each not in devices]
        self.entries = [each for each in self.entries if not any(each is entry for entry in entries)]


def match_devices(devices: Sequence[Device], listed: Sequence[EngineDevice]) -> tuple[DeviceMatch, ...]:
    """For each GPU among `devices` what the engine calls it, and how that is known; or why it is not.

    A card that two backends list goes by the one that its vendor made, else by Vulkan (`profiles.backends.PREFERENCE`).

    Args:
        devices: of the machine, the CPU among them or not.
        listed: what the engine lists, in its order; `uuid` and `pci_id` where they are known.
    """
    gpus = [device for device in devices if device.is_gpu]
    by_backend: dict[str, list[EngineDevice]] = {}
    for entry in listed:
        backend = backend_of_name(entry.name)
        if backend is not None and backend != "cpu":
            by_backend.setdefault(backend, []).append(entry)
    pairings = {backend: _pair_up(backend, gpus, entries) for backend, entries in by_backend.items()}
    return tuple(_best(device, pairings) for device in gpus)


def strangers(devices: Sequence[Device], listed: Sequence[EngineDevice]) -> tuple[EngineDevice, ...]:
    """The GPUs that an engine lists and whose maker has no card here: no driver's files tell of them (WSL2, Mali).

    Each once, by the backend that comes first for its vendor.
    """
    here = {device.vendor for device in devices}
    found: dict[str, tuple[str, list[EngineDevice]]] = {}
    for entry in listed:
        backend = backend_of_name(entry.name)
        if backend is None or backend == "cpu" or _SOFTWARE.search(entry.description):
            continue
        vendor = ONLY_VENDOR.get(backend) or vendor_of(entry.description) or "unknown"
        order = PREFERENCE[vendor]
        if vendor in here or backend not in order:
            continue
        kept = found.get(vendor)
        if kept is None or order.index(backend) < order.index(kept[0]):
            found[vendor] = (backend, [entry])
        elif backend == kept[0]:
            kept[1].append(entry)
    return tuple(entry for _, entries in found.values() for entry in entries)


def hidden_on_cpu(listed: Sequence[EngineDevice]) -> tuple[str, ...]:
    """The variables that keep an engine which computes on the CPU from taking memory on every GPU that it sees."""
    seen = {backend_of_name(entry.name) for entry in listed}
    return tuple(f"{variable}=-1" for backend, variable in HIDES.items() if backend in seen)


def together(matches: Sequence[DeviceMatch], devices: Sequence[Device]) -> DeviceMatch | str:
    """The matches of several devices as one, for a server that is given all of them; or why that cannot be.

    The names are joined by commas, in the order of ``devices``. Where each is known by a variable that shows the engine
    that card alone, the variable lists all of them, and the engine numbers them from 0 in that order.
    """
    if len(matches) == 1:
        return matches[0]
    backends = {match.backend for match in matches}
    backend = matches[0].backend
    if len(backends) > 1 or backend is None or any(match.name is None for match in matches):
        return "they are not driven by one backend"
    if any((device.uuid or "").startswith("MIG-") for device in devices):
        return "a program sees only one instance of a partitioned card (MIG)"
    shown = [dict(entry.split("=", 1) for entry in match.visible) for match in matches]
    variable = BY_UUID.get(backend)
    hidden = {key: value for key, value in shown[0].items() if value == "-1"}
    visible = dict(hidden)
    if variable is not None and all(variable in each for each in shown):
        names = [f"{(match.name or '').rstrip('0123456789')}{place}" for place, match in enumerate(matches)]
        visible[variable] = ",".join(each[variable] for each in shown)
        if backend == "rocm":
            visible[HIDES["rocm"]] = ",".join(str(place) for place in range(len(matches)))
    else:
        names = [match.listed_as or match.name or "" for match in matches]
    return DeviceMatch(
        "+".join(device.id for device in devices),
        name=",".join(names),
        backend=backend,
        how="; ".join(dict.fromkeys(match.how for match in matches)),
        sure=all(match.sure for match in matches),
        listed_as=",".join(match.listed_as or match.name or "" for match in matches),
        visible=tuple(f"{key}={value}" for key, value in visible.items()),
    )


def vendor_of(description: str) -> str | None:
    """Whose GPU a description is about, None where it does not say."""
    return next((vendor for vendor, pattern in _VENDOR_WORDS if pattern.search(description)), None)


def _pair_up(backend: str, gpus: Sequence[Device], entries: Sequence[EngineDevice]) -> _Pairing:
    able = [device for device in gpus if backend in PREFERENCE.get(device.vendor, ())]
    pairing = _Pairing(backend, able, list(entries))
    pairing.by("by its UUID", lambda device: device.uuid, lambda entry: entry.uuid)
    shared = {device.pci_id for device in able if sum(each.pci_id == device.pci_id for each in able) > 1}
    pairing.by(
        "by its PCI address",
        lambda device: None if device.pci_id in shared else device.pci_id,  # instances of one card (MIG) share it
        lambda entry: entry.pci_id,
    )
    pairing.by("by its name", lambda device: device.name.lower(), lambda entry: entry.description.lower())
    pairing.by("by the words of its name", lambda d: _words(d.name), lambda e: _words(e.description))
    chip = (lambda device: device.compute_capability, lambda entry: _chip(entry.description))
    pairing.by("by its chip", *chip, several=False)
    pairing.by_memory()
    pairing.by("by its chip", *chip)
    pairing.by_elimination()
    return pairing


def _best(device: Device, pairings: dict[str, _Pairing]) -> DeviceMatch:
    able = [backend for backend in PREFERENCE.get(device.vendor, ()) if backend in pairings]
    for backend in able:
        found = pairings[backend].found.get(device.id)
        if found is not None:
            return _named(device, found, backend, pairings)
    doubt = next((pairings[b].doubts[device.id] for b in able if device.id in pairings[b].doubts), None)
    if doubt is None:
        names = [f"{each.name} ({each.description})" for p in pairings.values() for each in p.entries][:8]
        listed = f"none of what it lists is known to be it: {', '.join(names)}" if names else "it does not list it"
        doubt = listed if pairings else "it lists no GPU"
    return DeviceMatch(device.id, how=doubt)


def _named(device: Device, found: _Found, backend: str, pairings: dict[str, _Pairing]) -> DeviceMatch:
    """The match, with the variables that leave the engine this device alone, and its name under them."""
    name, visible = found.entry.name, dict[str, str]()
    of_backend = [found.entry, *(f.entry for f in pairings[backend].found.values())]
    proven = found.entry.uuid is not None or found.entry.pci_id is not None
    alone = len({id(each) for each in of_backend}) == 1 and not pairings[backend].entries
    if backend in BY_UUID and device.uuid and (proven or alone) and (backend == "cuda" or found.entry.uuid):
        visible[BY_UUID[backend]] = device.uuid
        name = f"{name.rstrip('0123456789')}0"
        if backend == "rocm":
            visible[HIDES["rocm"]] = "0"
    for other, variable in HIDES.items():
        if other != backend and other in pairings:
            visible[variable] = "-1"
    return DeviceMatch(
        device.id,
        name=name,
        backend=backend,
        how=found.how,
        sure=found.sure,
        listed_as=found.entry.name,
        visible=tuple(f"{variable}={value}" for variable, value in visible.items()),
    )


def _place(device: Device) -> tuple[str, int]:
    return (device.pci_id or "", device.index or 0)


def _same_memory(device: Device, entry: EngineDevice) -> bool:
    ours, theirs = device.memory_total_bytes or 0, entry.memory_total_bytes or 0
    return min(ours, theirs) > 0 and abs(ours - theirs) <= MEMORY_TOLERANCE * max(ours, theirs)


def _words(name: str) -> frozenset[str]:
    return product_words(_BRACKETS.sub(" ", _MARKS.sub(" ", name)))


def _chip(description: str) -> str | None:
    """`gfx1100` of "AMD Radeon RX 7900 XTX (RADV NAVI31)"."""
    for inside in _BRACKETS.findall(description):
        for word in inside.lower().split():
            if word.startswith("gfx"):
                return str(word)
            if word in _CHIPS:
                return _CHIPS[word]
    return None
