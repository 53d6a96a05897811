"""What is known of a rate: of which model, on which hardware, beside what the memory bus allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiles.catalogue import card_of_device

if TYPE_CHECKING:
    from profiles.catalogue import Card
    from profiles.types import Device
    from quants.facts import ModelFacts


@dataclass(frozen=True, slots=True)
class Hardware:
    """What computes.

    Attributes:
        key: equal for devices whose rates may be taken for each other's: the name of a product without its memory, or
            the id of a hardware class of this tool where the catalogue does not know the product.
        family: those whose rates resemble each other: `nvidia`, `apple`, `amd discrete`, `cpu` ...
    """

    key: str
    family: str


@dataclass(frozen=True, slots=True)
class Load:
    """A model on a device, as far as its rates depend on it.

    Attributes:
        ideal_s: time that the memory bus takes for what one token reads: the inverse of the ceiling. With a part in
            host memory it is the sum of both parts' times.
        bits_per_weight: mean storage of a weight.
        moe: whether a token uses some of the weights only.
        quant: name of the quant.
        hardware: what computes.
        split: whether a part of the weights is read from host memory beside a GPU.
    """

    ideal_s: float
    bits_per_weight: float
    moe: bool
    quant: str
    hardware: Hardware
    split: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """A measured rate.

    Attributes:
        load: what was measured.
        decode_tps: tokens a second.
        prefill_tps: of a prompt; None where it was not measured.
        series: where it comes from: rates of one series share the engine's build and the way of measuring.
    """

    load: Load
    decode_tps: float
    prefill_tps: float | None
    series: str


def hardware_of_card(card: Card) -> Hardware:
    """A product of the catalogue, whatever its memory."""
    return Hardware(card.name, family(card.vendor, card.kind))


def hardware_of_device(device: Device, class_id: str) -> Hardware:
    """A device of a machine; `class_id` is the id of its hardware class, for one that the catalogue does not know."""
    if device.kind == "cpu":
        return Hardware(class_id, "cpu")
    card = card_of_device(device.name, device.memory_total_bytes)
    return Hardware(class_id, family(device.vendor, device.kind)) if card is None else hardware_of_card(card)


def family(vendor: str, kind: str) -> str:
    """Apple has one kind of GPU, NVIDIA one kind of driver; the others differ by whose memory they read."""
    if kind == "cpu" or vendor == "cpu":
        return "cpu"
    return vendor if vendor in {"nvidia", "apple"} else f"{vendor} {kind}"


def is_moe(facts: ModelFacts) -> bool:
    """Whether a token uses some of the weights only."""
    return facts.parameters_active < _ALL * facts.parameters


_ALL = 0.95
"""Below this share of active weights a model has experts that are chosen."""
