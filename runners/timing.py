"""From the events of one reply to its metrics: TTFT, prefill and decode rates, latencies between tokens.

Counts are the server's: one event may carry several tokens (speculative decoding, characters of several tokens), and
the end-of-text token brings no event at all. Rates are recomputed from raw counts and times, never taken as printed.

Decode rates are (n - 1) / t, by server and by client alike. The first token comes with the prompt's last batch, so
llama.cpp's `predicted_ms` spans the n - 1 steps between the first token and the last (server_slot_stats::t_gen_us:
last token minus end of prompt); builds that print n / t divide by the same time. The client's time runs from the
event of the first token to the end of the reply, which the last token (often the silent end-of-text) brings about.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from runners.chat import ChatResult, Event

TOKEN_KINDS = frozenset({"reasoning", "text", "tool"})
ANSWER_KINDS = frozenset({"text", "tool"})
CACHED_PROMPT = "cached_prompt"
RATES_DIFFER = "decode_rates_differ"
RATES_DIFFER_ABOVE = 0.05
UNCOUNTED = "the server does not say how many tokens came with each chunk"
SILENT_TOKENS = 4
"""How many tokens of a reply may bring no event although each of the others brings one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What was measured of one reply. None: it could not be measured, and `reasons` says why under the field's name.

    Seconds are by this process's monotonic clock, from the request's start; rates are tokens per second.

    Attributes:
        ttft_any_s: To the first token of any kind, reasoning included; the role-only chunk is no token.
        ttft_answer_s: To the first token of the answer: text or a tool call.
        e2e_s: To the last byte.
        prompt_tokens: Tokens of the prompt, cached ones included.
        cached_tokens: Those of them the server took from its cache; 0 unless something went wrong.
        completion_tokens: Generated tokens, reasoning and end-of-text included.
        reasoning_tokens: Generated tokens up to the first one of the answer, markers around the reasoning included.
        answer_tokens: The other generated tokens.
        prefill_tps: Uncached prompt tokens over the server's prompt time.
        decode_tps: Decode rate by the server's count and clock.
        decode_tps_client: Decode rate by the server's count and our clock.
        itl_p50_s: Median time between tokens; the gap before an event of k tokens counts as k gaps of a k-th.
        itl_p95_s: The same, 95th percentile.
        itl_p99_s: The same, 99th percentile.
        draft_accept_rate: Accepted over drafted tokens of speculative decoding.
        flags: `CACHED_PROMPT` (prefill is not comparable), `RATES_DIFFER` (client and server by more than 5%).
    """

    ttft_any_s: float | None
    ttft_answer_s: float | None
    e2e_s: float | None
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None
    reasoning_tokens: int | None
    answer_tokens: int | None
    prefill_tps: float | None
    decode_tps: float | None
    decode_tps_client: float | None
    itl_p50_s: float | None
    itl_p95_s: float | None
    itl_p99_s: float | None
    draft_accept_rate: float | None
    reasons: dict[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """The value at `fraction` (0 to 1) of sorted, non-empty `ordered`, linearly interpolated between neighbours."""
    place = fraction * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


class _Runs(Sequence[float]):
    """Sorted values that are each there several times; as a list of all of them one event could fill the memory."""

    def __init__(self, runs: Sequence[tuple[float, int]]) -> None:
        self._values = [value for value, _ in runs]
        self._ends = list(accumulate(count for _, count in runs))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, place: int) -> float: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[float]: ...
    def __getitem__(self, place: int | slice) -> float | Sequence[float]:
        if isinstance(place, slice):
            raise TypeError("runs are not sliced")
        return self._values[bisect_right(self._ends, place)]


def measure(result: ChatResult) -> Timing:
    """The metrics of one finished (or, from a `ChatError`, partial) reply."""
    reasons: dict[str, str] = {}
    tokens = [event for event in result.events if event.kind in TOKEN_KINDS]
    answer_at = next((event.at_s for event in tokens if event.kind in ANSWER_KINDS), None)
    if not tokens:
        reasons["ttft_any_s"] = "no token arrived"
    if answer_at is None:
        reasons["ttft_answer_s"] = "the reply holds no answer, only reasoning" if tokens else "no token arrived"

    if result.hidden_reasoning and not result.reasoning:
        reasons["ttft_any_s"] = "there was reasoning that was not sent: when it began is not known"
    prompt, cached, completion = _counts(result, tokens, reasons)
    reasoning, answer = _split(result, tokens, completion, reasons)
    decode = _server_decode_tps(result, reasons)
    decode_client = _client_decode_tps(result, tokens, (completion, answer), reasons)
    latencies = _latencies(tokens, answer if result.hidden_reasoning else completion, reasons)
    ours = {
        "ttft_any_s": None if "ttft_any_s" in reasons else tokens[0].at_s - result.started_s,
        "ttft_answer_s": None if answer_at is None else answer_at - result.started_s,
        "e2e_s": result.ended_s - result.started_s,
        "decode_tps_client": decode_client,
        **dict(zip(("itl_p50_s", "itl_p95_s", "itl_p99_s"), latencies, strict=True)),
    }
    if result.missed_s > 0:
        why = f"this process did not run for {result.missed_s:.0f} s meanwhile (stopped, or asleep)"
        reasons.update(dict.fromkeys((name for name, value in ours.items() if value is not None), why))
        ours = dict.fromkeys(ours)
        decode_client = None
    flags = []
    if cached:
        flags.append(CACHED_PROMPT)
    if decode and decode_client and abs(decode_client / decode - 1) > RATES_DIFFER_ABOVE:
        flags.append(RATES_DIFFER)
    return Timing(
        **ours,
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=completion,
        reasoning_tokens=reasoning,
        answer_tokens=answer,
        prefill_tps=_prefill_tps(result, reasons),
        decode_tps=decode,
        draft_accept_rate=_draft_accept_rate(result, reasons),
        reasons=reasons,
        flags=tuple(flags),
    )


def _counts(
    result: ChatResult, tokens: Sequence[Event], reasons: dict[str, str]
) -> tuple[int | None, int | None, int | None]:
    """Prompt, cached and generated tokens: from `usage`, else from `timings`, else (generated) from the events."""
    usage, timings = result.usage, result.timings
    prompt = usage.prompt_tokens if usage else None
    cached = usage.cached_tokens if usage else None
    completion = usage.completion_tokens if usage else None
    if timings is not None:
        if cached is None:
            cached = timings.cache_n
        if prompt is None and timings.prompt_n is not None and timings.cache_n is not None:
            prompt = timings.prompt_n + timings.cache_n
        if completion is None:
            completion = timings.predicted_n
    if completion is None and tokens and all(event.tokens is not None for event in tokens):
        completion = sum(event.tokens or 0 for event in tokens)
    if prompt is None:
        reasons["prompt_tokens"] = _unsaid(result, "the server did not say", "prompt_tokens", "prompt_n", "cache_n")
    if cached is None:
        reasons["cached_tokens"] = _unsaid(result, "the server did not say", "cached_tokens", "cache_n")
    if completion is None:
        reasons["completion_tokens"] = _unsaid(result, "the server did not say", "completion_tokens", "predicted_n")
    return prompt, cached, completion


def _unsaid(result: ChatResult, otherwise: str, *names: str) -> str:
    """Why there is no figure that would be made of `names`: what the server said instead of one, or `otherwise`."""
    return next((result.unsound[name] for name in names if name in result.unsound), otherwise)


def _split(
    result: ChatResult, tokens: Sequence[Event], completion: int | None, reasons: dict[str, str]
) -> tuple[int | None, int | None]:
    """Generated tokens, parted into reasoning and answer."""
    if completion is None:
        reasons["reasoning_tokens"] = reasons["answer_tokens"] = reasons["completion_tokens"]
        return None, None
    kinds = {event.kind for event in tokens}
    if result.usage is not None and result.usage.reasoning_tokens is not None and not _denies_reasoning(result):
        reasoning = result.usage.reasoning_tokens
    elif result.hidden_reasoning:
        reasons["reasoning_tokens"] = reasons["answer_tokens"] = "the server counts reasoning and answer together"
        return None, None
    elif "reasoning" not in kinds:
        reasoning = 0
    elif not kinds & ANSWER_KINDS:
        reasoning = completion
    else:
        counted = [event.tokens for event in tokens if event.kind == "reasoning"]
        if any(count is None for count in counted):
            why = "the server counts reasoning and answer together"
            reasons["reasoning_tokens"] = reasons["answer_tokens"] = why
            return None, None
        reasoning = sum(count or 0 for count in counted)
    return reasoning, max(0, completion - reasoning)


def _denies_reasoning(result: ChatResult) -> bool:
    """Whether the server counts no tokens of a reasoning that came: it took what spilled into the answer for that."""
    return bool(result.reasoning) and result.usage is not None and result.usage.reasoning_tokens == 0


def _prefill_tps(result: ChatResult, reasons: dict[str, str]) -> float | None:
    timings = result.timings
    if timings is None or timings.prompt_n is None or not timings.prompt_ms:
        reasons["prefill_tps"] = _unsaid(result, "the server gave no prompt timings", "prompt_n", "prompt_ms")
    elif timings.prompt_n == 0:
        reasons["prefill_tps"] = "the whole prompt came from the cache"
    else:
        return timings.prompt_n / timings.prompt_ms * 1000.0
    return None


def _server_decode_tps(result: ChatResult, reasons: dict[str, str]) -> float | None:
    timings = result.timings
    if timings is None or timings.predicted_n is None or not timings.predicted_ms:
        reasons["decode_tps"] = _unsaid(result, "the server gave no decode timings", "predicted_n", "predicted_ms")
    elif timings.predicted_n < 2:
        reasons["decode_tps"] = "a single token has no decode rate"
    else:
        return (timings.predicted_n - 1) / timings.predicted_ms * 1000.0
    return None


def _client_decode_tps(
    result: ChatResult, tokens: Sequence[Event], counts: tuple[int | None, int | None], reasons: dict[str, str]
) -> float | None:
    """By our clock; `counts` are the generated tokens, and those of them that are the answer."""
    completion, answer = counts
    # Tokens that were not sent passed before the first that was: over the time of the others they would be a rate that
    # no machine has.
    arrived = answer if result.hidden_reasoning else completion
    if not tokens:
        reasons["decode_tps_client"] = "no token arrived"
    elif completion is None:
        reasons["decode_tps_client"] = reasons["completion_tokens"]
    elif arrived is None:
        reasons["decode_tps_client"] = "the server counts reasoning that it did not send, or not as it is"
    else:
        # What the first event brought was there when the clock starts.
        steps = arrived - (tokens[0].tokens or 1)
        finish_at = next((event.at_s for event in result.events if event.kind == "finish"), tokens[-1].at_s)
        elapsed_s = max(finish_at, tokens[-1].at_s) - tokens[0].at_s
        if steps > 0 and elapsed_s > 0.0:
            return steps / elapsed_s
        reasons["decode_tps_client"] = "the reply came in one piece"
    return None


def gaps_of(result: ChatResult) -> list[tuple[float, int]]:
    """Seconds between the tokens of a reply, each with how many gaps of that length there were."""
    return _gaps([event for event in result.events if event.kind in TOKEN_KINDS])


def _gaps(tokens: Sequence[Event]) -> list[tuple[float, int]]:
    return [((event.at_s - before.at_s) / (event.tokens or 1), event.tokens or 1) for before, event in pairwise(tokens)]


def percentiles(gaps: list[tuple[float, int]]) -> tuple[float, float, float] | None:
    """Median, 95th and 99th percentile of gaps; None of none."""
    runs = _Runs(sorted(gaps))
    return (percentile(runs, 0.50), percentile(runs, 0.95), percentile(runs, 0.99)) if gaps else None


def _latencies(
    tokens: Sequence[Event], arrived: int | None, reasons: dict[str, str]
) -> tuple[float, float, float] | tuple[None, None, None]:
    """Percentiles of the gaps; `arrived` is how many tokens came with these events, None where that is not known."""
    found = percentiles(_gaps(tokens))
    why = "fewer than two tokens arrived apart"
    if found is not None and not _counted_one_by_one(tokens, arrived):
        found, why = None, UNCOUNTED
    if found is None:
        for name in ("itl_p50_s", "itl_p95_s", "itl_p99_s"):
            reasons[name] = why
        return None, None, None
    return found


def _counted_one_by_one(tokens: Sequence[Event], arrived: int | None) -> bool:
    """Whether it is known how many tokens each event stands for: said, or as many events as tokens.

    The end-of-text token, and the marks around reasoning and tool calls, bring no event.
    """
    if all(event.tokens is not None for event in tokens[1:]):
        return True
    return arrived is not None and 0 <= arrived - len(tokens) <= SILENT_TOKENS


def _draft_accept_rate(result: ChatResult, reasons: dict[str, str]) -> float | None:
    timings = result.timings
    if timings is None or not timings.draft_n or timings.draft_n_accepted is None:
        reasons["draft_accept_rate"] = _unsaid(result, "no tokens were drafted", "draft_n", "draft_n_accepted")
        return None
    return timings.draft_n_accepted / timings.draft_n
