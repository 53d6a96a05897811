"""Cells of printed tables as values: what stands there, and how exactly it was printed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NOTHING: Final = frozenset({"", "—", "-", "N/A", "Native", "Unknown"})
"""Cells that give no figure."""

_NUMBER = re.compile(r"\A~?(?P<digits>[0-9][0-9,]*(?:\.(?P<decimals>[0-9]+))?) ?(?P<unit>[A-Za-z%]*)")
_FACTORS: Final = {
    **dict.fromkeys(("", "s", "%"), 1.0),
    **dict.fromkeys(("K", "KB"), 1e3),
    **dict.fromkeys(("M", "MB"), 1e6),
    **dict.fromkeys(("B", "GB"), 1e9),
}
_SHARE = re.compile(r"\A(?P<part>[0-9]+)/(?P<whole>[0-9]+)")
_RANGE = re.compile(r"\A(?P<low>[0-9.]+)[\N{EN DASH}-](?P<high>[0-9.]+)")
_SCORE_RANGE = re.compile(r"\A\A(?P<score>[0-9.]+) \((?P<range>[^()]+)\)")
_SIZED = re.compile(r"\A(?P<quant>[A-Z0-9_-]+) \((?P<size>[^()]+)\)")
_ACTIVE = re.compile(r"\A(?P<all>[^ ()]+) \((?P<active>[^ ()]+) active\)")
_BUILD = re.compile(r"\A(?P<mark>✅|❌)(?: \(?(?:(?P<nth>[0-9]+)(?:st|nd|rd|th) try|0/(?P<failed>[0-9]+))\)?)?")
_NUDGES = re.compile(r"\A(?P<count>[0-9]+)?(?: \+ )?(?P<stop>stop)?")
_MARKS: Final = {"✅": True, "❌": False, "Yes": True, "No": False}
_KINDS: Final = {"Local": "local", "Cloud": "cloud"}


class PrintedError(ValueError):
    """A cell that does not read as what its column holds."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number as it is printed.

    Attributes:
        value: in the unit of its column (bytes, seconds, tokens).
        half: half a step of its last printed digit, in the same unit: 14.3 stands for 14.25 to 14.35.
    """

    value: float
    half: float

    def agrees(self, other: Figure) -> bool:
        """Whether both can be roundings of one number."""
        return abs(self.value - other.value) <= (self.half + other.half) * (1 + 1e-9)


Values = dict[str, Any]
"""Values by column; numbers are `Figure`s."""


def read_cell(column: str, text: str) -> Values:
    """What a cell says: values by column, none where it says nothing.

    Args:
        column: what it holds; a cell may hold more than one thing (`build`, `quant_size`).
        text: as printed.

    Raises:
        PrintedError: it is not that.
    """
    text = text.strip()
    if text in NOTHING and column != "architecture":
        return {}
    return _READERS.get(column, _one(column, number))(text)


def number(text: str) -> Figure:
    """A number with its unit: `1,510.2`, `0.87s`, `~21GB`, `2.06M`, `40.5%`."""
    match = _whole(_NUMBER, text)
    factor = _FACTORS.get(match["unit"])
    if factor is None:
        raise PrintedError(f"{text!r}: what is {match['unit']!r}?")
    value = float(match["digits"].replace(",", ""))
    return Figure(value * factor, 0.5 * 10.0 ** -len(match["decimals"] or "") * factor)


def _whole(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    match = pattern.fullmatch(text)
    if match is None:
        raise PrintedError(f"{text!r} does not read as {pattern.pattern}")
    return match


def _one(column: str, reader: Callable[[str], Any]) -> Callable[[str], Values]:
    return lambda text: {column: reader(text)}


def _range(text: str) -> Values:
    match = _whole(_RANGE, text)
    return {"score_low": number(match["low"]), "score_high": number(match["high"])}


def _score_range(text: str) -> Values:
    match = _whole(_SCORE_RANGE, text)
    return {"score": number(match["score"]), **_range(match["range"])}


def _share(column: str, whole: str) -> Callable[[str], Values]:
    def read(text: str) -> Values:
        match = _whole(_SHARE, text)
        return {column: number(match["part"]), whole: number(match["whole"])}

    return read


def _sized(text: str) -> Values:
    match = _whole(_SIZED, text)
    return {"quant": match["quant"], "file_bytes": number(match["size"])}


def _parameters(text: str) -> Values:
    match = _ACTIVE.fullmatch(text)
    if match is None:
        return {"parameters": number(text)}
    return {"parameters": number(match["all"]), "parameters_active": number(match["active"])}


def _architecture(text: str) -> Values:
    """`Local MoE`, `Cloud (control)`, or one of our own words."""
    if text in {"dense", "moe"}:
        return {"architecture": text}
    first, _, rest = text.partition(" ")
    if first not in _KINDS:
        raise PrintedError(f"{text!r} names neither Local nor Cloud")
    values: Values = {"kind": _KINDS[first]}
    return values | ({"architecture": rest.casefold()} if rest in {"MoE", "Dense"} else {})


def _build(text: str) -> Values:
    """`✅ (3rd try)`, `❌ (0/7)`, `❌`: whether it passed in the end, and how many builds that took or were tried."""
    match = _whole(_BUILD, text)
    tries = match["nth"] or match["failed"]
    return {"build_passed": _MARKS[match["mark"]]} | ({"builds": number(tries)} if tries else {})


def _nudges(text: str) -> Values:
    """`2 + stop`: how often it was encouraged, and whether it had to be stopped."""
    match = _whole(_NUDGES, text)
    return {"stopped": match["stop"] is not None} | ({"nudges": number(match["count"])} if match["count"] else {})


def _mark(text: str) -> bool:
    if text not in _MARKS:
        raise PrintedError(f"{text!r} is neither yes nor no")
    return _MARKS[text]


_READERS: Final[Mapping[str, Callable[[str], Values]]] = {
    **{name: _one(name, str) for name in ("label", "quant", "exam", "outcome")},
    **{name: _one(name, _mark) for name in ("syntax_valid", "screenshot")},
    "range": _range,
    "score_range": _score_range,
    "compiles": _share("compiles", "compiles_of"),
    "features": _share("features", "features_max"),
    "functional": _share("functional", "functional_max"),
    "quant_size": _sized,
    "parameters": _parameters,
    "architecture": _architecture,
    "build": _build,
    "nudges": _nudges,
}
