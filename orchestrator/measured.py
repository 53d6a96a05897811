"""The rates that runs of ours have measured, as what predictions of rates learn from."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from profiles.bus import is_impossible
from profiles.catalogue import GIB, card_of_device
from quants.speed.observation import Hardware, Load, Observation, hardware_of_card
from results.reading import read_run
from results.summary import finals_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_COLUMNS: Final = (
    *("job_id", "final", "taken_out", "outcome_class", "model", "quant", "variant", "hardware_class", "device"),
    *("parameters", "parameters_active", "bits_per_weight", "decode_tps", "decode_ceiling_tps", "prefill_tps"),
    *("prompt_tokens", "cached_tokens", "draft_accept_rate", "cold", "shared_with"),
)
_CLASS: Final = re.compile(r"(.{1,64})-(\d{1,4})g-[0-9a-f]{8}")
_LEAST_PROMPT: Final = 64
"""The prefill of a shorter prompt says nothing of longer ones."""
_MOE_SHARE: Final = 0.95
_AT_ONCE: Final = 40
"""Cells of one run that are learned from: more say nothing new, and the work grows with the cube."""


@dataclass(frozen=True, slots=True)
class MeasuredCell:
    """A cell of a run on one hardware class, with its median rates.

    Attributes:
        observation: what it says of the hardware.
        requests: behind the medians.
    """

    model: str
    quant: str
    variant: str
    hardware_class: str
    observation: Observation
    requests: int


def measured_cells(root: Path) -> list[MeasuredCell]:
    """The cells of the run in `root` whose rates can be learned from.

    Left out: requests with a draft model, with something else on the node, a first one after a load, rates without a
    ceiling (a part in host memory, a bandwidth or a header that is not known), and rates that are above it.

    Raises:
        StoreError: there is no run, or a newer quantsweep wrote it.
    """
    rows = finals_of(row for row in read_run(root, _COLUMNS).table.to_pylist() if not row["taken_out"])
    groups: dict[tuple[str, str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if _usable(row):
            key = (row["model"], row["quant"], row["variant"], row["hardware_class"])
            groups.setdefault(key, []).append(row)
    return [_cell(key, group, str(root)) for key, group in groups.items()]


def observations(roots: Iterable[Path]) -> list[Observation]:
    """What the runs in `roots` say; see :func:`measured_cells`."""
    return [cell.observation for root in roots for cell in measured_cells(root)[:_AT_ONCE]]


def hardware_of_class(class_id: str, device: str | None) -> Hardware:
    """The hardware behind the id of a hardware class: the product where the catalogue knows it, else the class."""
    if device == "cpu":
        return Hardware(class_id, "cpu")
    found = _CLASS.fullmatch(class_id)
    card = None if found is None else card_of_device(found[1].replace("-", " "), int(found[2]) * GIB)
    return Hardware(class_id, "other") if card is None else hardware_of_card(card)


def _usable(row: dict[str, Any]) -> bool:
    rate, ceiling = row["decode_tps"], row["decode_ceiling_tps"]
    return bool(
        rate
        and ceiling
        and row["bits_per_weight"]
        and row["hardware_class"]
        and row["draft_accept_rate"] is None
        and not row["cold"]
        and not _shared(row["shared_with"])
        and not is_impossible(rate, ceiling)
    )


def _shared(text: str | None) -> bool:
    try:
        return bool(json.loads(text or "[]"))
    except (ValueError, RecursionError):
        return True


def _cell(key: tuple[str, str, str, str], rows: Sequence[dict[str, Any]], series: str) -> MeasuredCell:
    model, quant, variant, hardware_class = key
    first = rows[0]
    ideal_s = 1 / median(row["decode_ceiling_tps"] for row in rows)
    whole, active = first["parameters"], first["parameters_active"]
    load = Load(
        ideal_s=ideal_s,
        bits_per_weight=first["bits_per_weight"],
        moe=bool(whole and active and active < _MOE_SHARE * whole),
        quant=quant,
        hardware=hardware_of_class(hardware_class, first["device"]),
    )
    prefills = [
        row["prefill_tps"]
        for row in rows
        if row["prefill_tps"] and (row["prompt_tokens"] or 0) - (row["cached_tokens"] or 0) >= _LEAST_PROMPT
    ]
    # A rate is the median over its requests, as in the tables: what a share of the ceiling is is one figure a cell.
    decode_tps = median(row["decode_tps"] / row["decode_ceiling_tps"] for row in rows) / ideal_s
    found = Observation(load, decode_tps, median(prefills) if prefills else None, series)
    return MeasuredCell(model, quant, variant, hardware_class, found, len(rows))
