"""The timings of a quant: medians over those requests whose figures nothing speaks against."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from statistics import median
from typing import TYPE_CHECKING, Any, Final, Literal

from profiles.bus import is_impossible, utilisation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Row = dict[str, Any]

_DISAGREEMENT: Final = 0.05
"""Client and server decode rates further apart than this share of the server's contradict each other."""

BUSY_SHARE: Final = 0.15
"""Where others take more than this of a machine's CPU time during a request, its timings are not clean.

A share that is null, as of every request shorter than MIN_CPU_S of profiles/window.py, says nothing against a request:
it is kept, as docs/columns.md tells a reader to.

Ray and the driver take some 0.2 of a core themselves, which is a tenth of the smallest machines."""

Disturbance = Literal["busy", "shared", "clock", "bus"]
"""What may speak against the timings of a request."""

_CONTRADICTED: Final = frozenset[Disturbance]({"clock", "bus"})


@dataclass(frozen=True, slots=True)
class Timings:
    """Medians over a quant's requests.

    They are over requests that are clean: warm, uncached, with nothing else on the node, not known to be disturbed by
    other work, and with rates that nothing contradicts. Where there are none, over those that nothing contradicts;
    where there are none of these either, over all.

    Attributes:
        requests: How many they are over, of `timed`.
        clean: Whether those are clean.
        marked_for: What they are where they are not: `busy` (other work), `shared` (the first after a load, with a
            cached prompt, or beside something else), `clock`, `bus` (contradicted by it).
        rates, first_tokens: How many of them have a decode rate, and a time to the first token.
        by_clock, by_bus: Requests, among all, whose decode rate the client's clock contradicts, or the memory bus.
        decode_tps_low, decode_tps_high: The slowest and the fastest of them.
        utilisation: Median share of what the memory bus allows (`profiles.bus`); None where that is not known.
        impossible: Whether the decode rate is over requests above what the memory bus allows, as there are no others.
        busy: Requests, among all, of which it is known that others took more than BUSY_SHARE of the machine's CPU time.
        busiest: The highest such share; None where it was never measured.
        unset_threads: Whether a CPU served with as many threads as the engine chose.
    """

    requests: int
    clean: bool
    ttft_any_s: float | None
    ttft_answer_s: float | None
    prefill_tps: float | None
    decode_tps: float | None
    hardware_classes: tuple[str, ...]
    timed: int
    rates: int
    first_tokens: int
    marked_for: tuple[Disturbance, ...] = ()
    by_clock: int = 0
    by_bus: int = 0
    decode_tps_low: float | None = None
    decode_tps_high: float | None = None
    utilisation: float | None = None
    impossible: bool = False
    busy: int = 0
    busiest: float | None = None
    unset_threads: bool = False


def timings_of(finals: Sequence[Row]) -> Timings:
    """The timings of the attempts that stand for the jobs of a quant."""
    timed = [row for row in finals if row["decode_tps"] is not None or row["ttft_any_s"] is not None]
    told = [(row, _disturbances(row)) for row in timed]
    clean = [each for each in told if not each[1]]
    kept = clean or [each for each in told if each[1].isdisjoint(_CONTRADICTED)] or told
    rows = [row for row, _ in kept]
    found = Counter(chain.from_iterable(disturbances for _, disturbances in told))
    marks = frozenset(chain.from_iterable(disturbances for _, disturbances in kept))
    return Timings(
        requests=len(rows),
        clean=bool(clean),
        ttft_any_s=_median(rows, "ttft_any_s"),
        ttft_answer_s=_median(rows, "ttft_answer_s"),
        prefill_tps=_median(rows, "prefill_tps"),
        decode_tps=_median(rows, "decode_tps"),
        decode_tps_low=_fold(min, rows, "decode_tps"),
        decode_tps_high=_fold(max, rows, "decode_tps"),
        utilisation=_median_of(utilisation(row["decode_tps"], row["decode_ceiling_tps"]) for row in rows),
        impossible="bus" in marks,
        hardware_classes=texts_in(rows, "hardware_class"),
        timed=len(timed),
        rates=sum(row["decode_tps"] is not None for row in rows),
        first_tokens=sum(row["ttft_any_s"] is not None for row in rows),
        marked_for=tuple(sorted(marks)),
        by_clock=found["clock"],
        by_bus=found["bus"],
        busy=found["busy"],
        busiest=_fold(max, timed, "foreign_cpu_share"),
        unset_threads=any(
            _leaves_threads(text) for text in {r["engine_settings"] for r in timed if r["device"] == "cpu"}
        ),
    )


def _disturbances(row: Row) -> frozenset[Disturbance]:
    """What speaks against a request's timings; the query of results.describe asks the same."""
    server, client = row["decode_tps"], row["decode_tps_client"]
    found: list[Disturbance] = []
    if (row["foreign_cpu_share"] or 0.0) > BUSY_SHARE:
        found.append("busy")
    if row["cold"] or row["cached_tokens"] or parsed(row["shared_with"]):
        found.append("shared")
    if server is not None and client is not None and abs(client - server) > _DISAGREEMENT * server:
        found.append("clock")
    ceiling = row["decode_ceiling_tps"]
    if row["above_ceiling"] or (server is not None and ceiling is not None and is_impossible(server, ceiling)):
        found.append("bus")
    return frozenset(found)


@lru_cache(maxsize=256)
def parsed(text: str | None) -> Any:
    """JSON of a row, which may be somebody else's: None where it is none.

    Remembered, as a hundred thousand rows hold a few different texts.
    """
    try:
        return json.loads(text or "null")
    except (ValueError, RecursionError):
        return None


def _leaves_threads(engine_settings: str | None) -> bool:
    settings = parsed(engine_settings)
    return isinstance(settings, dict) and settings.get("threads") is None and bool(settings)


def _median_of(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _median(rows: Sequence[Row], name: str) -> float | None:
    return _fold(median, rows, name)


def most_in(rows: Sequence[Row], name: str) -> int | None:
    """The largest value of a column, as a whole number; None where no row has one."""
    most = _fold(max, rows, name)
    return None if most is None else int(most)


def _fold(function: Callable[[list[float]], float], rows: Sequence[Row], name: str) -> float | None:
    values = [row[name] for row in rows if row[name] is not None]
    return function(values) if values else None


def texts_in(rows: Sequence[Row], name: str) -> tuple[str, ...]:
    """The values of a column of texts, each once."""
    return tuple(sorted({row[name] for row in rows if row[name] is not None}))
