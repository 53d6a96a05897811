"""The figures of an attempt that took several requests: sums where sums mean something, else those of the first.

Of one request they are that request's own. The time to the first token and the prefill rate are the first turn's: later
prompts repeat the first. Tokens and times are summed, decode rates and latencies taken over all turns together.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runners.timing import UNCOUNTED, Timing, gaps_of, measure, percentiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runners.chat import ChatResult

_SUMMED = ("e2e_s", "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "answer_tokens")
_LATENCIES = ("itl_p50_s", "itl_p95_s", "itl_p99_s")
_RATES = ("decode_tps", "decode_tps_client")
_OF_A_TURN = (*_SUMMED, "ttft_any_s", "ttft_answer_s", "prefill_tps", *_RATES)


def measure_turns(results: Sequence[ChatResult]) -> Timing:
    """The metrics of all turns together, of which there is at least one."""
    timings = [measure(result) for result in results]
    first = timings[0]
    if len(timings) == 1:
        return first
    reasons = {name: why for name, why in first.reasons.items() if name not in {*_SUMMED, *_RATES}}
    changed: dict[str, Any] = {}
    for name in _SUMMED:
        changed[name] = _sum([getattr(timing, name) for timing in timings])
    for name in _RATES:
        changed[name] = _rate([(getattr(timing, name), timing.completion_tokens) for timing in timings])
    for name in (*_SUMMED, *_RATES):
        if changed[name] is None:
            whys = [timing.reasons[name] for timing in timings if name in timing.reasons]
            reasons[name] = f"of a turn: {whys[0]}" if whys else "it was not measured in every turn"
    changed |= dict.fromkeys(_LATENCIES)
    if any(result.missed_s for result in results):
        reasons |= dict.fromkeys(_LATENCIES, "this process did not run for a while meanwhile (stopped, or asleep)")
    elif uncounted := [timing.reasons["itl_p50_s"] for timing in timings if _uncounted(timing)]:
        reasons |= dict.fromkeys(_LATENCIES, uncounted[0])
    elif (found := percentiles([gap for result in results for gap in gaps_of(result)])) is not None:
        changed |= dict(zip(_LATENCIES, found, strict=True))
    drafted = [result.timings for result in results if result.timings is not None and result.timings.draft_n]
    if drafted and all(each.draft_n_accepted is not None for each in drafted):
        accepted = sum(each.draft_n_accepted or 0 for each in drafted)
        changed["draft_accept_rate"] = accepted / sum(each.draft_n or 0 for each in drafted)
    reasons = {name: why for name, why in reasons.items() if changed.get(name, getattr(first, name, None)) is None}
    return replace(first, **changed, reasons=reasons)


def _uncounted(timing: Timing) -> bool:
    return timing.reasons.get("itl_p50_s") == UNCOUNTED


def turn_figures(results: Sequence[ChatResult]) -> list[dict[str, Any]]:
    """Each turn's own figures, for the row; what could not be measured is left out."""
    timings = [measure(result) for result in results]
    return [
        {name: value for name in _OF_A_TURN if (value := getattr(timing, name)) is not None}
        | {"finish_reason": result.finish_reason}
        for timing, result in zip(timings, results, strict=True)
    ]


def _sum(values: Sequence[Any]) -> Any:
    return None if any(value is None for value in values) else sum(values)


def _rate(turns: Sequence[tuple[float | None, int | None]]) -> float | None:
    """The rate over all turns that have one: their steps over their seconds. A turn of one token has no rate."""
    known = [(rate, count - 1) for rate, count in turns if rate and count and count > 1]
    seconds = sum(steps / rate for rate, steps in known)
    return sum(steps for _, steps in known) / seconds if seconds > 0 else None
