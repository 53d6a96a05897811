"""Cards by name: memory, bandwidth and kind of what people run models on, from ``cards.toml`` beside this module."""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from profiles.errors import UnknownCardError
from profiles.types import DeviceKind, Record, Vendor

GIB = 1 << 30
NOISE = frozenset(
    ("nvidia", "amd", "intel", "apple", "corporation", "geforce", "radeon", "tesla", "rtx", "gtx", "rx", "arc")
) | {"graphics", "gpu", "r", "tm"}
"""Words that drivers, shops and people put in or leave out at will."""

SIZE = re.compile(r"^(\d+)g$")

SIZE_TOLERANCE = 0.12
"""How far the memory that a driver reports may lie below the nominal size, as a share: ECC and firmware take some."""


@dataclass(frozen=True, slots=True)
class Card(Record):
    """A product. ``memory_bytes`` is nominal (a driver reports a little less), None where it is the machine's own RAM.

    ``bandwidth_bytes_per_s`` is the theoretical peak; ``bandwidth_is_maximum`` says that slower ones are sold under
    the name. ``source`` names the vendor's page; ``checked`` what the row was held against (see the head of
    ``cards.toml``).
    """

    id: str
    name: str
    vendor: Vendor
    kind: DeviceKind
    memory_bytes: int | None
    bandwidth_bytes_per_s: float
    bus_bits: int
    rate_gbps: float
    source: str
    checked: str
    bandwidth_is_maximum: bool = False
    aliases: tuple[str, ...] = ()
    pci_ids: tuple[str, ...] = ()

    @property
    def bandwidth_source(self) -> str:
        """How a device's bandwidth is labelled when it is taken from here."""
        return f"catalogue{', at most' if self.bandwidth_is_maximum else ''}: {self.source}"


@functools.cache
def load_catalogue() -> tuple[Card, ...]:
    """Every card, in the order of the file."""
    text = resources.files("profiles").joinpath("cards.toml").read_text(encoding="utf-8")
    cards: list[Card] = []
    for group in tomllib.loads(text)["group"]:
        for row in group["cards"]:
            cards += _expand(row, group)
    sizes: dict[str, int] = {}
    for card in cards:
        sizes[card.name] = sizes.get(card.name, 0) + 1
    return tuple(card if sizes[card.name] > 1 else _without_size(card) for card in cards)


def find_card(name: str) -> Card:
    """The card that a person means: by id (``rtx-5090``), name, alias, or the words of it in any order and case.

    A size picks among products of one name: ``rtx-4060-ti-16gb``, ``m4 max 128``.

    Raises:
        UnknownCardError: nothing fits, or several do; the text lists the nearest.
    """
    cards = load_catalogue()
    found: list[Card] = []
    wanted = _words(name)
    named = next((card for card in cards if card.id == "-".join(name.lower().split())), None)
    if named is not None:
        return named
    sizes = {f"{card.memory_bytes // GIB}" for card in cards if card.memory_bytes is not None}
    # "m4 max 128" means the size although it does not say so, unless it names a card as it stands.
    for words in (wanted, frozenset(f"{word}g" if word in sizes else word for word in wanted)):
        exact = [card for card in cards if words and any(_words(known) == words for known in _names(card))]
        found = exact or [card for card in cards if words and any(words <= _words(known) for known in _names(card))]
        if len(found) == 1:
            return found[0]
        if found:
            break
    if found:
        raise UnknownCardError(f"{name!r} could be: {_listed(found)}; say which")
    by_id = {card.id: card for card in cards}
    near = difflib.get_close_matches("-".join(sorted(wanted)), ["-".join(sorted(_words(each))) for each in by_id], n=5)
    nearest = [card for card in cards if "-".join(sorted(_words(card.id))) in near]
    hint = f"the nearest are: {_listed(nearest)}" if nearest else "`quantsweep cards` lists those there are"
    raise UnknownCardError(f"no card is called {name!r}; {hint}. One that is missing is given by its memory: --vram 16")


def search_cards(word: str = "") -> tuple[Card, ...]:
    """The cards whose id, name or alias has all of these words; every card for none."""
    parts = word.lower().split()
    return tuple(
        card
        for card in load_catalogue()
        if all(any(part in known.lower() for known in (*_names(card), card.vendor)) for part in parts)
    )


def card_of_device(name: str, memory_bytes: int | None, *, pci_id: str | None = None) -> Card | None:
    """The product behind a device, by the name its driver gives (or its PCI device id) and its memory.

    None where the name is not known or the memory fits no product of that name; never a neighbour.
    """
    wanted = _sizeless(name)
    named = [
        card
        for card in load_catalogue()
        if (pci_id is not None and pci_id in card.pci_ids)
        or (wanted and any(_sizeless(known) == wanted for known in (card.name, *card.aliases)))
    ]
    if len(named) == 1 and (memory_bytes is None or named[0].memory_bytes is None or named[0].kind == "unified"):
        return named[0]
    if memory_bytes is None:
        return None
    for card in named:
        nominal = card.memory_bytes
        if nominal is None or -0.01 <= 1 - memory_bytes / nominal <= SIZE_TOLERANCE:
            return card
    return None


@functools.lru_cache(maxsize=4096)
def product_words(name: str) -> frozenset[str]:
    """What tells a product's name from another's: its words without vendor, series, size and the like."""
    return _sizeless(name)


@functools.cache
def is_product(words: frozenset[str]) -> bool:
    """Whether these are all the words (as of :func:`product_words`) of a card that the catalogue has."""
    return any(_sizeless(known) == words for card in load_catalogue() for known in (card.name, *card.aliases))


def _expand(row: dict[str, Any], group: dict[str, Any]) -> list[Card]:
    name = row["name"]
    slug = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\b(geforce|radeon|apple|graphics|gpu)\b", "", name.lower())).strip("-")
    return [
        Card(
            id=slug if size is None else f"{slug}-{size}gb",
            name=name,
            vendor=group["vendor"],
            kind=group["kind"],
            memory_bytes=None if size is None else size * GIB,
            bandwidth_bytes_per_s=row["bandwidth_gb_s"] * 1e9,
            bus_bits=row["bus_bits"],
            rate_gbps=row["rate_gbps"],
            source=group["source"],
            checked=row.get("checked", group["checked"]),
            bandwidth_is_maximum=row.get("bandwidth_is_maximum", False),
            aliases=tuple(row.get("aliases", ())),
            pci_ids=tuple(row.get("pci_ids", ())),
        )
        for size in row.get("memory_gib", [None])
    ]


def _without_size(card: Card) -> Card:
    """A product that comes in one size needs none in its id."""
    import dataclasses

    return dataclasses.replace(card, id=re.sub(r"-\d+gb$", "", card.id))


@functools.cache
def _names(card: Card) -> tuple[str, ...]:
    size = "" if card.memory_bytes is None else f" {card.memory_bytes // GIB}GB"
    return (card.id, card.name, *card.aliases, f"{card.name}{size}", *(f"{alias}{size}" for alias in card.aliases))


@functools.lru_cache(maxsize=4096)
def _words(name: str) -> frozenset[str]:
    """A name as a set of words: ``RTX4060Ti-16GB`` and ``NVIDIA GeForce RTX 4060 Ti (16 GB)`` are the same."""
    text = re.sub(r"(?<!\d)(\d++)\s*+(?:gib|gb)\b", r" \1g ", name.lower().replace("+", " plus "))
    text = re.sub(r"\b(rtx|gtx|rx|arc)(?=\d|[ab]\d)", r"\1 ", text)
    text = re.sub(r"(?<=\d{4})(ti|super|xtx|xt|gre|d)\b", r" \1", text)
    words = re.split(r"[^a-z0-9]+", text)
    return frozenset(word for word in words if word and word not in NOISE)


def _sizeless(name: str) -> frozenset[str]:
    """The words of a name without its memory: drivers write ``A100-SXM4-80GB``."""
    return frozenset(word for word in _words(name) if not SIZE.match(word))


def _listed(cards: list[Card]) -> str:
    return ", ".join(dict.fromkeys(card.id for card in cards[:8])) + (", ..." if len(cards) > 8 else "")
