"""Comparisons of variants and of models as tables for people, and what the verdicts are called there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from results.answer import place_name
from results.figures import count, plain, points, size
from results.layout import Column, Layout
from results.pairings import ALL_QUANTS
from results.verdict import FEWEST_SEEDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from results.pairings import Pairing
    from results.saving import Saving
    from results.verdict import Comparison

MOST_LINES: Final = 20
"""Of one table of comparisons; a sweep of a thousand cells may have a thousand. `show --json` has all."""

MEANING: Final = (
    "difference: of the means, over answers to the same task and seed, which are not the same draws; verdict: at 95%, "
    "within 5% of full marks is equivalent; +12: seeds that would decide"
)

MEANING_BY_SCORE: Final = (
    "difference: of the means, over answers to the same task and seed, which are not the same draws; 95%, verdict: "
    "hold however often they were looked at while seeds were added; within the margin is equivalent"
)
"""The same where the number of seeds was chosen by the scores."""


def verdict_text(comparison: Comparison) -> str:
    """`worse`, or `undecided +12` where so many more seeds would decide."""
    more = comparison.more_seeds
    return comparison.verdict if more is None else f"{comparison.verdict} +{more:,}"


def titled_tables(pairings: Sequence[Pairing], name: int = 60) -> Iterator[tuple[str, Layout, str]]:
    """For each pairing its title, its table, and what was left out of it; names are cut to `name` characters."""
    for pairing in pairings:
        if max(comparison.pairs for comparison in pairing.comparisons) < FEWEST_SEEDS:
            continue  # nothing to compare by: the page would be no wiser
        lines = _shown(pairing)
        left = len(pairing.comparisons) - len(lines)
        what = f"{place_name(pairing.model, pairing.reference)}" if pairing.model is not None else pairing.reference
        full = "" if pairing.score_max is None else f" (/{plain(pairing.score_max)})"
        title = f"{pairing.of.capitalize()} against {_cut(what, name)} on {pairing.exam}{full}"
        more = f"{count(left, 'more comparison')}: `quantsweep show --json`." if left else ""
        yield title, _table(pairing, lines, name), more


def _shown(pairing: Pairing) -> list[int]:
    """The lines of a table: those over all quants first, then what is decided, as far as there is room; in order."""
    lines = range(len(pairing.comparisons))

    def weight(line: int) -> tuple[bool, bool, int]:
        return pairing.quants[line] != ALL_QUANTS, pairing.comparisons[line].verdict == "undecided", line

    return sorted(sorted(lines, key=weight)[:MOST_LINES])


def _table(pairing: Pairing, lines: Sequence[int], name: int) -> Layout:
    compared = [pairing.comparisons[line] for line in lines]
    savings = [pairing.savings[line] for line in lines]
    names = [
        one.name if pairing.of == "models" else f"{one.name}, {pairing.quants[line]}"
        for line, one in zip(lines, compared, strict=True)
    ]
    columns = [
        Column("difference", [_signed(one.difference) for one in compared], "scores"),
        Column("95%", [_interval(one) for one in compared], "scores"),
        Column("pairs", [f"{one.pairs:,}" for one in compared], "scores"),
        Column("verdict", [verdict_text(one) for one in compared], "scores"),
        Column("saves file", [_less(each, "file_bytes") for each in savings], "machine"),
        Column("RAM", [_less(each, "ram_bytes") for each in savings], "machine"),
        Column("VRAM", [_less(each, "vram_bytes") for each in savings], "machine"),
        Column("speed", [_speed(each) for each in savings], "machine"),
    ]
    return Layout(
        pairing.of.removesuffix("s"),
        [_cut(each, name) for each in names],
        [column for column in columns if any(column.cells)],
        [""] * len(lines),
    )


def _interval(comparison: Comparison) -> str:
    interval = comparison.interval
    return "" if interval is None else f"{_signed(interval.low)} to {_signed(interval.high)}"


def _signed(value: float | None) -> str:
    """A difference with its sign; one that rounds to nothing has none."""
    if value is None:
        return ""
    text = points(value)
    return text.lstrip("-") if float(text) == 0 else f"{value:+.1f}"


def _less(saving: Saving | None, name: str) -> str:
    """What is saved; with a minus where it takes more."""
    number = None if saving is None else getattr(saving, name)
    if not number:
        return ""
    return size(number) if number > 0 else f"-{size(-number)}"


def _speed(saving: Saving | None) -> str:
    ratio = None if saving is None else saving.decode_ratio
    return "" if ratio is None else f"x {ratio:.2f}"


def _cut(text: str, most: int) -> str:
    """A name of at most so many characters; the middle of a longer one is left out."""
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]}...{text[-half:]}"
