"""A published report as one side of a comparison: its cells on each exam, merged over the tables that have them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, TypeAlias

from results.published.scores import Behind, scores_behind
from results.published.source import read_source
from results.published.table import flagged
from results.sides import Side, SideCell, name_key, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from results.published.printed import Figure
    from results.published.rules import Flag
    from results.published.source import Line

_Key: TypeAlias = "tuple[str, str | None, str, str]"

PREFIX: Final = "published:"
SCORING: Final = "published"
"""The scoring of ours that is a report's own."""

_OWN: Final = "the report's own"
_CONDITIONS: Final = (
    *(("hardware", "hardware"), ("backend", "backend"), ("engine", "engine"), ("engine build", "engine_build")),
    *(("context", "context"), ("K cache", "cache_type"), ("V cache", "cache_type"), ("reasoning", "reasoning_mode")),
    *(("sampling temperature", "temperature"), ("sampling max_tokens", "max_tokens")),
)


def side_of_report(name: str) -> Side:
    """The report that `published:NAME` names.

    Raises:
        SourceError: there is none of that name.
    """
    source = read_source(name.removeprefix(PREFIX))
    groups: dict[_Key, list[tuple[Line, list[Flag]]]] = defaultdict(list)
    left_out: dict[str, None] = {}
    for line, flags in flagged(source):
        if line.text("origin") == "self-reported":
            left_out[f"table {line.table}: the makers' own figures, of unquantized models on other machines"] = None
            continue
        exam, variant = line.text("exam") or "", line.text("variant") or "default"
        key = line.text("model") or line.label, line.text("quant"), variant, exam
        groups[key].append((line, flags))
    cells = [_cell(*key, found) for key, found in groups.items()]
    return Side(name, tuple(cells), published=True, left_out=tuple(left_out))


def _cell(model: str, quant: str | None, variant: str, exam: str, found: Sequence[tuple[Line, list[Flag]]]) -> SideCell:
    lines = [line for line, _ in found]
    behind = _behind(lines)
    wrong: dict[str, dict[str, str]] = defaultdict(dict)
    for _, flags in found:
        for flag in flags:
            for column in flag.columns:
                wrong[column].setdefault(flag.name, flag.reason)  # once, as several tables have the same figure
    names = {name_key(model)} | {name_key(name) for line in lines if (name := line.text("name")) is not None}
    score_max = _first(lines, "score_max")
    return SideCell(
        model=model,
        quant=quant,
        variant=variant,
        exam=exam,
        names=frozenset(names),
        score_max=None if score_max is None else score_max.value,
        scores={},
        loose={} if behind is None else {SCORING: behind.points},
        loose_sure=behind is None or behind.sure,
        decode_tps=_value(lines, "decode_tps"),
        ttft_s=_value(lines, "ttft_s"),
        conditions=_conditions(lines),
        printed=frozenset(name_key(line.label) for line in lines) - names,
        wrong={column: tuple(reasons.values()) for column, reasons in wrong.items()},
    )


def _behind(lines: Sequence[Line]) -> Behind | None:
    """The scores behind the mean, from the line that says the most of them."""
    known = [behind for line in lines if (behind := scores_behind(line)) is not None]
    return next((behind for behind in known if behind.sure), known[0] if known else None)


def _first(lines: Sequence[Line], column: str) -> Figure | None:
    return next((figure for line in lines if (figure := line.figure(column)) is not None), None)


def _value(lines: Sequence[Line], column: str) -> float | None:
    figure = _first(lines, column)
    return None if figure is None else figure.value


def _conditions(lines: Sequence[Line]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name, column in _CONDITIONS:
        figure = _first(lines, column)
        text = next((text for line in lines if (text := line.text(column)) is not None), None)
        if figure is not None:
            found[name] = (shown(figure.value),)
        elif text is not None:
            found[name] = (text,)
    # Ours ask for what a report describes, in words of our own, and are graded by graders of our own.
    return found | {"prompt version": (_OWN,), "grader version": (_OWN,)}
