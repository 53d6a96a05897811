"""What a reader of the tables has to know about the rows behind them: marked, left out, or not comparable."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from results.answer import cell_name
from results.figures import count, money

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from results.reading import Torn
    from results.summary import QuantSummary
    from results.timings import Disturbance

MOST_NAMED = 12
"""Names that a note gives; a sweep of a thousand cells may have a thousand."""

CHECKED = "ok"
"""`exam_check` of a row whose machine graded known answers rightly."""

NO_PROOF = "no proof"
"""How `exam_check` begins where the exam has no answers that are known."""

_NAME_CHARS = 60
_FINDING_CHARS = 200


def notes(summaries: Sequence[QuantSummary], torn: Sequence[Torn] = (), *, taken_out: int = 0) -> tuple[str, ...]:
    """Sentences in the order of their weight; none where there is nothing to say.

    `taken_out` is how many jobs have attempts on record and are not in the sweep any more.
    """
    found = (
        *_checks(summaries),
        _unfinished(summaries),
        _infrastructure(summaries),
        _budget(summaries),
        _retried(summaries),
        _regraded(summaries),
        _reused(summaries),
        _taken_out(taken_out),
        _spent(summaries),
        _mixed_exams(summaries),
        _mixed_hardware(summaries),
        *_deviations(summaries),
        _busy(summaries),
        _threads(summaries),
        _disturbed(summaries),
        _by_clock(summaries),
        _by_bus(summaries),
        _torn(torn),
    )
    return tuple(note for note in found if note)


def _spent(summaries: Sequence[QuantSummary]) -> str:
    """What all cells cost together, where more than one did."""
    total: dict[str, float] = {}
    costing = [summary for summary in summaries if summary.costs]
    for summary in costing:
        for currency, amount in summary.costs.items():
            total[currency] = total.get(currency, 0.0) + amount
    number = sum(summary.uncosted for summary in summaries)
    unknown = f"; what {count(number, 'attempt')} cost is not known" if number else ""
    if len(costing) < 2 and not unknown:
        return ""
    spent = (
        " and ".join(money(amount, currency) for currency, amount in sorted(total.items())) or "nothing that is known"
    )
    return f"All attempts cost {spent} together, by the spec's prices{unknown}."


def _checks(summaries: Sequence[QuantSummary]) -> Iterator[str]:
    """Graders that were wrong about known answers, each with its machine; then those that nothing proves."""
    failed: Counter[tuple[str, str, str]] = Counter()
    unproved: dict[str, str] = {}
    for summary in summaries:
        for node, found, number in summary.checks:
            if found.startswith(NO_PROOF):
                unproved.setdefault(summary.exam, found.removeprefix(NO_PROOF).lstrip(": "))
            elif found != CHECKED:
                failed[summary.exam, node, found.removeprefix("failed").lstrip(": ")] += number
    for (exam, node, found), number in failed.most_common(MOST_NAMED):
        where = f"on {_cut(node)}" if node else "again on a machine"
        yield (
            f"{count(number, 'answer')} to {_cut(exam)} graded {where}, where its grader is wrong about an answer that "
            f"is known ({_cut(found, _FINDING_CHARS)}): the scores may be wrong. `quantsweep exams check` there shows "
            "whether exam or machine is at fault; `quantsweep regrade`, once that is mended, grades them anew."
        )
    if len(failed) > MOST_NAMED:
        yield f"{len(failed) - MOST_NAMED} more exams and machines where a grader is wrong about known answers."
    for exam, why in list(unproved.items())[:MOST_NAMED]:
        yield f"Nothing proves the grader of {_cut(exam)} ({_cut(why, _FINDING_CHARS)})."


def _cut(text: str, most: int = _NAME_CHARS) -> str:
    """Foreign text in one line, and no longer than a sentence can bear."""
    joined = " ".join(text.split())
    return joined if len(joined) <= most else f"{joined[: most - 3]}..."


def _unfinished(summaries: Sequence[QuantSummary]) -> str:
    number = sum(summary.open_jobs for summary in summaries)
    return f"{count(number, 'job')} begun and not ended: not in the figures." if number else ""


def _infrastructure(summaries: Sequence[QuantSummary]) -> str:
    number = sum(summary.infrastructure for summary in summaries)
    if not number:
        return ""
    ended = sum(summary.jobs for summary in summaries)
    which = _listed(
        f"{_name(summary)} {summary.jobs - summary.infrastructure} of {summary.jobs} scored"
        + ("" if summary.strict_mean is None else f", mean with the rest as 0: {summary.strict_mean:.1f}")
        for summary in summaries
        if summary.infrastructure
    )
    return (
        f"{number} of {count(ended, 'job')} ended without a score because the infrastructure failed; the means leave "
        f"them out ({which}). `quantsweep run ... --retry-failed` runs them again."
    )


def _budget(summaries: Sequence[QuantSummary]) -> str:
    number = sum(summary.budget for summary in summaries)
    if not number:
        return ""
    cap = sum(summary.outcomes.get("max_tokens", 0) for summary in summaries)
    which = (
        "a limit"
        if not cap
        else f"{'its' if number == 1 else 'their'} token limit"
        if cap == number
        else f"a limit, {cap:,} of them that of tokens"
    )
    return (
        f"{count(number, 'answer')} cut off by {which} ({_by_name(summaries, lambda summary: summary.budget)}): scored "
        "as far as that goes, and in the means; more tokens or time may score higher."
    )


def _retried(summaries: Sequence[QuantSummary]) -> str:
    number = sum(summary.retried for summary in summaries) - sum(summary.open_jobs for summary in summaries)
    return f"{count(number, 'earlier attempt')} on record, not in the figures." if number > 0 else ""


def _regraded(summaries: Sequence[QuantSummary]) -> str:
    number = sum(summary.regraded for summary in summaries)
    if not number:
        return ""
    return f"{count(number, 'answer')} graded again; the earlier grades are on record (rows with `regrade_of`)."


def _reused(summaries: Sequence[QuantSummary]) -> str:
    number = sum(summary.reused for summary in summaries)
    return f"{count(number, 'answer')} taken from other runs (rows with `reused_from`)." if number else ""


def _taken_out(number: int) -> str:
    return f"{count(number, 'job')} taken out of the sweep: on record, not in the figures." if number else ""


def _mixed_exams(summaries: Sequence[QuantSummary]) -> str:
    mixed = [
        summary
        for summary in summaries
        if len(summary.grader_versions) > 1 or len(summary.prompt_versions) > 1 or len(summary.scorings) > 1
    ]
    if not mixed:
        return ""
    names = _listed(dict.fromkeys(map(_name, mixed)))
    text = f"More than one version of prompt or grader, or more than one scoring, in {names}: means of several things."
    if any(len(summary.grader_versions) > 1 for summary in mixed):
        text += " `quantsweep regrade RUN` grades all answers by one grader."
    return text


def _mixed_hardware(summaries: Sequence[QuantSummary]) -> str:
    classes = sorted({name for summary in summaries for name in summary.timings.hardware_classes})
    if len(classes) < 2:
        return ""
    return f"Timings come from different hardware ({_listed(classes)}): compare them within one kind only."


def _deviations(summaries: Sequence[QuantSummary]) -> list[str]:
    """What servers did otherwise than they were asked to, a note for each way."""
    names: dict[str, dict[str, None]] = {}
    for summary in summaries:
        for said in (said for text in summary.deviations for said in _sentences(text)):
            names.setdefault(said, {})[_name(summary)] = None
    return [f"Served otherwise than asked: {said} ({_listed(of)})." for said, of in names.items()]


def _sentences(text: str) -> list[str]:
    """The texts of a JSON list of a row, which may be somebody else's."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return [each for each in said if isinstance(each, str)] if isinstance(said, list) else []


def _busy(summaries: Sequence[QuantSummary]) -> str:
    """Other work on the machine: such requests are left out of the timings where there are others."""
    busy = [summary for summary in summaries if summary.timings.busy]
    if not busy:
        return ""
    number = sum(summary.timings.busy for summary in busy)
    most = max(summary.timings.busiest or 0.0 for summary in busy)
    text = f"{count(number, 'request')} ran while other work took up to {most:.0%} of the machine's CPU time"
    return f"{text}: {_left_out(busy, 'busy')}. Measure on a machine at rest."


def _left_out(summaries: Sequence[QuantSummary], why: Disturbance) -> str:
    """What became of the timings of requests of which `summaries` have some each."""
    marked = sum(why in summary.timings.marked_for for summary in summaries)
    if not marked:
        return "their timings are left out"
    elsewhere = "" if marked == len(summaries) else ", and left out elsewhere"
    mark = "!" if why == "bus" else "*"
    return f"their timings are marked {mark} where there are no others{elsewhere}"


def _threads(summaries: Sequence[QuantSummary]) -> str:
    """A server with a thread a core waits, for every token, for the one that has to share its core."""
    if not any(summary.timings.busy and summary.timings.unset_threads for summary in summaries):
        return ""
    return (
        "The CPU served with as many threads as the engine chose, about one a core, while other programs used it: "
        "each token waits for the slowest of them. Fewer `threads` under [engine] can be much faster."
    )


def _disturbed(summaries: Sequence[QuantSummary]) -> str:
    marked = [_name(summary) for summary in summaries if "shared" in summary.timings.marked_for]
    if not marked:
        return ""
    return (
        f"* timings of a first request after a load, with a cached prompt, or while something shared the node: "
        f"there were no others ({_listed(marked)})."
    )


def _by_clock(summaries: Sequence[QuantSummary]) -> str:
    """Which of the two clocks is wrong cannot be told; the server's figure is the one that the table would show."""
    odd = [summary for summary in summaries if summary.timings.by_clock]
    if not odd:
        return ""
    number = sum(summary.timings.by_clock for summary in odd)
    return (
        f"{count(number, 'request')} whose decode rates by the server's clock and by ours are more than 5% apart "
        f"({_by_name(odd, lambda summary: summary.timings.by_clock)}): {_left_out(odd, 'clock')}. One of the two was "
        "held up: measure on a machine at rest, and compare `decode_tps` with `decode_tps_client` where that does not "
        "help."
    )


def _by_bus(summaries: Sequence[QuantSummary]) -> str:
    odd = [summary for summary in summaries if summary.timings.by_bus]
    if not odd:
        return ""
    number = sum(summary.timings.by_bus for summary in odd)
    return (
        f"{count(number, 'request')} with a decode rate above what the memory bus allows "
        f"({_by_name(odd, lambda summary: summary.timings.by_bus)}): {_left_out(odd, 'bus')}. Either the server's "
        "figure is wrong or the bandwidth that is known of the device: compare `decode_tps` with `decode_ceiling_tps`, "
        "and the bandwidth that `quantsweep nodes` shows with the maker's."
    )


def _torn(torn: Sequence[Torn]) -> str:
    if not torn:
        return ""
    names = _listed(one.path.name for one in torn)
    return f"{count(len(torn), 'damaged file')} left out ({names}); their jobs run again when the sweep is started."


def _by_name(summaries: Sequence[QuantSummary], number: Callable[[QuantSummary], int]) -> str:
    counts: Counter[str] = Counter()
    for summary in summaries:
        counts[_name(summary)] += number(summary)
    return _listed(f"{name}: {value}" for name, value in counts.items() if value)


def _listed(names: Iterable[str]) -> str:
    """The first of what a sweep of a thousand cells may have a thousand of, and how many more there are."""
    found = list(names)
    more = [f"and {len(found) - MOST_NAMED} more"] if len(found) > MOST_NAMED else []
    return ("; " if any(", " in name for name in found) else ", ").join(found[:MOST_NAMED] + more)


def _name(summary: QuantSummary) -> str:
    return cell_name(summary.model, summary.variant, summary.quant)
