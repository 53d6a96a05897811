"""What stands in the columns of a table, line by line, and what their headings mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from results.figures import durations, money, plain, points, rate, size
from results.layout import Column

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from results.summary import QuantSummary

_Cells: TypeAlias = "Callable[[Sequence[QuantSummary]], list[str]]"
"""What stands in one column, for the lines of a table."""

_REASONED: Final = 1.2
"""From this multiple of the TTFT on, the wait for the answer is worth a column."""
_SPREAD: Final = 2
"""From so many requests on there is a slowest and a fastest."""

TOLD_AT: Final = 3
"""The k of the pass@k that has a column; `show --json` has more."""

_MEANINGS: Final = {
    "95%": "interval of the mean",
    "range": "of scores",
    "full": "full marks",
    "built": "programs that build and get a point",
    "jobs": "with a score",
    "verdict": "against the best larger quant; +12: seeds that would decide",
    "standing": "beside the best cell of the model, holds however often it was looked at",
    "cost": "of all attempts, failed ones too",
    "of": "requests behind it",
    "min-max": "tok/s",
    "bus": "share of what the memory bus allows; !: more than it allows, so the figure is wrong",
}
"""Of headings that do not speak for themselves, in the order of the columns."""


def legend(headings: Collection[str]) -> str:
    """What the headings of a page mean, in a line; empty where each speaks for itself."""
    return "; ".join(f"{heading}: {meaning}" for heading, meaning in _MEANINGS.items() if heading in headings)


def _range(summary: QuantSummary) -> str:
    return "" if summary.low is None else f"{plain(summary.low)}-{plain(summary.high)}"


def _interval(summary: QuantSummary) -> str:
    interval = summary.interval
    return "" if interval is None else f"{points(interval.low)}-{points(interval.high)}"


def _full_marks(summary: QuantSummary) -> str:
    return f"{summary.full_marks}/{len(summary.scores)}" if summary.scores else ""


def _built(group: Sequence[QuantSummary]) -> list[str]:
    """How many programs were built, where not all were: `2/3`."""
    if all(summary.built == len(summary.scores) for summary in group):
        return [""] * len(group)
    return [f"{summary.built}/{len(summary.scores)}" if summary.scores else "" for summary in group]


def _pass_at(group: Sequence[QuantSummary]) -> list[str]:
    """pass@3, where it says more than how many have full marks."""
    if not any(0 < summary.full_marks < len(summary.scores) for summary in group):
        return [""] * len(group)
    return [f"{share:.0%}" if (share := summary.pass_at.get(TOLD_AT)) is not None else "" for summary in group]


def _jobs(summary: QuantSummary) -> str:
    """Scored jobs; `3 of 5` where some of those that began have no score."""
    begun = summary.jobs + summary.open_jobs
    scored = len(summary.scores)
    return str(scored) if scored == begun else f"{scored} of {begun}"


def _rates(summary: QuantSummary) -> str:
    """The slowest and the fastest request that the median is of, where there are several."""
    timings = summary.timings
    if timings.rates < _SPREAD or timings.decode_tps_low is None:
        return ""
    return f"{rate(timings.decode_tps_low)}-{rate(timings.decode_tps_high)}"


def _rates_behind(summary: QuantSummary) -> str:
    """`1/5` where the rate is not of all requests that were timed."""
    timings = summary.timings
    return "" if timings.rates in {0, timings.timed} else f"{timings.rates:,}/{timings.timed:,}"


def _first_tokens_behind(summary: QuantSummary) -> str:
    """The same of TTFT, where it is another number than that behind the rate beside it."""
    timings = summary.timings
    if not timings.first_tokens or timings.first_tokens == (timings.rates or timings.timed):
        return ""
    return f"{timings.first_tokens:,}/{timings.timed:,}"


def _answer_delay(summary: QuantSummary) -> float | None:
    """Time to the first token of the answer, where reasoning came before it."""
    first, answer = summary.timings.ttft_any_s, summary.timings.ttft_answer_s
    return None if first is None or answer is None or answer < _REASONED * first else answer


def _cost(summary: QuantSummary) -> str:
    """What was spent; with `>=` where that of some attempts is not known."""
    spent = " + ".join(money(amount, currency) for currency, amount in sorted(summary.costs.items()))
    return f">= {spent}" if spent and summary.uncosted else spent


def _starred(text: str, summary: QuantSummary) -> str:
    return text if summary.timings.clean or not text else text + "*"


def _decode_rate(summary: QuantSummary) -> str:
    """The decode rate; `123!` where it is above what the memory bus allows."""
    text = rate(summary.timings.decode_tps)
    return f"{text}!" if text and summary.timings.impossible else _starred(text, summary)


def _bus_share(summary: QuantSummary) -> str:
    share = summary.timings.utilisation
    return "" if share is None else f"{share:.0%}{'!' if summary.timings.impossible else ''}"


def _each(cell: Callable[[QuantSummary], str]) -> _Cells:
    return lambda group: [cell(summary) for summary in group]


def _times(seconds: Callable[[QuantSummary], float | None], *, starred: bool = True) -> _Cells:
    """A column of times, which has one unit."""

    def cells(group: Sequence[QuantSummary]) -> list[str]:
        texts = durations([seconds(summary) for summary in group])
        return [_starred(text, summary) if starred else text for text, summary in zip(texts, group, strict=True)]

    return cells


COLUMNS: Final[tuple[tuple[Column, _Cells], ...]] = (
    (Column("size", (), "scores"), _each(lambda s: size(s.file_bytes))),
    (Column("mean", (), "scores"), _each(lambda s: points(s.mean))),
    (Column("95%", (), "scores"), _each(_interval)),
    (Column("range", (), "scores"), _each(_range)),
    (Column("full", (), "scores"), _each(_full_marks)),
    (Column(f"pass@{TOLD_AT}", (), "scores", told=True), _pass_at),
    (Column("built", (), "scores"), _built),
    (Column("jobs", (), "scores"), _each(_jobs)),
    (Column("cut off", (), "scores", told=True), _each(lambda s: str(s.budget or ""))),
    (Column("cost", (), "machine"), _each(_cost)),
    (Column("RAM", (), "machine"), _each(lambda s: size(s.peak_ram_bytes))),
    (Column("VRAM", (), "machine"), _each(lambda s: size(s.peak_vram_bytes))),
    (Column("load", (), "machine"), _times(lambda s: s.load_s, starred=False)),
    (Column("TTFT", (), "machine"), _times(lambda s: s.timings.ttft_any_s)),
    (Column("of", (), "machine", joined=True), _each(_first_tokens_behind)),
    (Column("answer", (), "machine"), _times(_answer_delay)),
    (Column("tok/s", (), "machine"), _each(_decode_rate)),
    (Column("of", (), "machine", joined=True), _each(_rates_behind)),
    (Column("min-max", (), "machine", joined=True), _each(_rates)),
    (Column("bus", (), "machine"), _each(_bus_share)),
)
"""What may stand in a table; a column of which no line has anything to say is left out."""
