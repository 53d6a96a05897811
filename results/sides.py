"""One side of a comparison: the cells of a run, each with its scores, rates and the conditions that it ran under."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from results.answer import cell_name
from results.reading import read_run
from results.summary import SUMMARISED, finals_of, summarise

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from results.summary import Row

Answer = tuple[str, int]
"""Task and seed."""

_PLAIN: Final = (
    # What a difference is called, and the column.
    *(("hardware", "hardware_class"), ("cpu", "cpu"), ("backend", "backend"), ("driver", "driver")),
    *(("engine", "engine"), ("engine build", "engine_build"), ("provider", "provider")),
    *(("context", "context"), ("K cache", "cache_type_k"), ("V cache", "cache_type_v")),
    *(("reasoning", "reasoning_mode"), ("file", "file_sha256"), ("chat template", "chat_template_sha256")),
    *(("prompt version", "prompt_version"), ("prompt", "prompt_sha256"), ("grader version", "grader_version")),
    *(("isolation", "isolation"), ("quantsweep", "quantsweep_version")),
)
READ: Final = (*SUMMARISED, "scores", "sampling", *(column for _, column in _PLAIN if column not in SUMMARISED))
"""The columns that a side is made from."""

_SAID_BY_COLUMN: Final = frozenset({"kind", "context", "cache_type_k", "cache_type_v", "reasoning"})
"""Settings of an engine that have a column of their own."""
_KEY: Final = ("model", "quant", "variant", "exam")
_HASHES: Final = frozenset({"file", "chat template", "prompt"})
_HASH_CHARS: Final = 12
ABOVE_BUS: Final = "the decode rate is above what the memory bus allows"
_SEPARATORS = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class SideCell:
    """A cell on an exam.

    Attributes:
        quant: None where a report does not say it.
        variant: `default` where there is no other.
        names: what the model may be called by, as `name_key` has it.
        printed: what a report calls the cell itself, likewise.
        scores: points by task and seed, by scoring; empty where a report gives none of single seeds.
        loose: points of seeds whose number is not known, by scoring.
        loose_sure: whether those are the only ones that have what is printed.
        conditions: what it ran under, each with all values there were; a condition that is not here is not known.
        wrong: columns that are known to be wrong, each with the reasons.
    """

    model: str
    quant: str | None
    variant: str
    exam: str
    names: frozenset[str]
    score_max: float | None
    scores: Mapping[str, Mapping[Answer, float]]
    loose: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    loose_sure: bool = True
    decode_tps: float | None = None
    ttft_s: float | None = None
    conditions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    wrong: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    printed: frozenset[str] = frozenset()

    @property
    def label(self) -> str:
        """The cell without its exam, as tables and `--map` call it."""
        return cell_name(self.model, self.variant, self.quant or "none")

    def points(self, scoring: str) -> tuple[float, ...]:
        """All points by a scoring, however they are known."""
        return (*self.scores.get(scoring, {}).values(), *self.loose.get(scoring, ()))

    @property
    def scorings(self) -> tuple[str, ...]:
        """The scorings that it has points by; the one that its sweep asked for first."""
        return tuple(dict.fromkeys((*self.scores, *self.loose)))


@dataclass(frozen=True, slots=True)
class Side:
    """What is compared with something else.

    Attributes:
        name: as it was asked for.
        published: whether it is a report and not a run.
        left_out: what of it is not compared at all, and why.
    """

    name: str
    cells: tuple[SideCell, ...]
    published: bool = False
    left_out: tuple[str, ...] = ()


def name_key(name: str) -> str:
    """Equal for names that differ in case, spaces and punctuation only: `Gemma 4 26B` and `gemma-4-26b`."""
    return _SEPARATORS.sub("", name.casefold())


def side_of_run(run_folder: Path, name: str) -> Side:
    """The run in `run_folder`, with the attempt that stands for each job.

    Raises:
        StoreError: there is no run, or a newer quantsweep wrote it.
    """
    reading = read_run(run_folder, READ)
    return Side(name, cells_of(reading.table), left_out=tuple(map(str, reading.torn)))


def cells_of(table: Any) -> tuple[SideCell, ...]:
    """The cells of a run's attempts, on each exam."""
    import pyarrow as pa

    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, key in enumerate(zip(*(table[name].to_pylist() for name in _KEY), strict=True)):
        places[key].append(place)
    read = table.select(list(READ)).combine_chunks()
    found = []
    for summary in summarise(table):
        # A cell at a time: the rows of a large run as dicts would take gigabytes.
        there = pa.array(places[summary.model, summary.quant, summary.variant, summary.exam], pa.int64())
        own = read.take(there).to_pylist()
        rows = finals_of(row for row in own if not row["taken_out"])
        found.append(
            SideCell(
                model=summary.model,
                quant=None if summary.quant == "none" else summary.quant,
                variant=summary.variant,
                exam=summary.exam,
                names=frozenset({name_key(summary.model)}),
                score_max=summary.score_max,
                scores=_scores(rows),
                decode_tps=summary.timings.decode_tps,
                ttft_s=summary.timings.ttft_any_s,
                conditions=_conditions(rows),
                wrong={"decode_tps": (ABOVE_BUS,)} if summary.timings.impossible else {},
            )
        )
    return tuple(found)


def _scores(rows: Iterable[Row]) -> dict[str, dict[Answer, float]]:
    found: dict[str, dict[Answer, float]] = defaultdict(dict)
    for row in rows:
        if row["score"] is None:
            continue
        by_scoring = {row["scoring"] or "score": float(row["score"])}
        for scoring, points in (by_scoring | _numbers(row["scores"]) | by_scoring).items():
            found[scoring][row["task"] or "main", int(row["seed"])] = points
    return dict(found)


def _numbers(text: str | None) -> dict[str, float]:
    """Points by scoring, out of somebody's row."""
    return {name: float(value) for name, value in _object(text).items() if isinstance(value, int | float)}


@lru_cache(maxsize=1024)
def _object(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _conditions(rows: Sequence[Row]) -> dict[str, tuple[str, ...]]:
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for name, column in _PLAIN:
            if row[column] is not None:
                text = str(row[column])
                found[name].add(text[:_HASH_CHARS] if name in _HASHES else text)
        for what, settings in (("sampling", row["sampling"]), ("engine", row["engine_settings"])):
            for key, value in _object(settings).items():
                if key not in _SAID_BY_COLUMN:
                    found[f"{what} {key}"].add(shown(value))
    return {name: tuple(sorted(values)) for name, values in found.items()}


def shown(value: Any) -> str:
    """A setting as it is written in a spec: numbers without a needless `.0`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.10g}" if isinstance(value, int | float) else str(value)
