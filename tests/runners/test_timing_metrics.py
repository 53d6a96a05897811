"""Events to metrics: each figure by hand-made replies whose answer is known."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.chat import ChatResult, Event, EventKind, ServerTimings, Usage
from runners.timing import CACHED_PROMPT, RATES_DIFFER, Timing, measure, percentile


def events(*steps: tuple[float, EventKind, int | None]) -> tuple[Event, ...]:
    return tuple(Event(at_s, kind, 4, tokens) for at_s, kind, tokens in steps)


# Asked at 100; prompt of 50, 10 tokens of reasoning in two events, then 3 of an answer and an end-of-text token.
THOUGHT = ChatResult(
    text="abc",
    reasoning="hm",
    finish_reason="stop",
    events=events(
        (101.0, "role", None),
        (101.0, "reasoning", 1),
        (102.0, "reasoning", 9),
        (103.0, "text", 1),
        (103.5, "text", 2),
        (104.0, "finish", None),
        (104.0, "usage", None),
    ),
    started_s=100.0,
    ended_s=104.25,
    usage=Usage(prompt_tokens=50, completion_tokens=14, cached_tokens=0),
    timings=ServerTimings(prompt_n=50, prompt_ms=500.0, predicted_n=14, predicted_ms=3000.0, cache_n=0),
)


def test_a_whole_reply() -> None:
    timing = measure(THOUGHT)
    assert timing.ttft_any_s == 1.0
    assert timing.ttft_answer_s == 3.0
    assert timing.e2e_s == 4.25
    assert (timing.prompt_tokens, timing.cached_tokens, timing.completion_tokens) == (50, 0, 14)
    assert (timing.reasoning_tokens, timing.answer_tokens) == (10, 4)
    assert timing.prefill_tps == pytest.approx(100.0)
    assert timing.decode_tps == pytest.approx(13 / 3.0)
    assert timing.decode_tps_client == pytest.approx(13 / 3.0)
    # Gaps: nine ninths of a second, one of a second, two quarters.
    assert timing.itl_p50_s == pytest.approx(1 / 9)
    assert timing.itl_p99_s == pytest.approx(1 / 4 + 0.89 * 3 / 4)
    assert timing.draft_accept_rate is None
    assert timing.reasons == {"draft_accept_rate": "no tokens were drafted"}
    assert timing.flags == ()


def test_the_role_is_no_token() -> None:
    reply = replace(THOUGHT, events=events((100.1, "role", None), (108.0, "text", 1), (108.1, "text", 1)))
    assert measure(reply).ttft_any_s == 8.0


def test_a_tool_call_is_an_answer() -> None:
    reply = replace(THOUGHT, events=events((101.0, "reasoning", 1), (102.0, "tool", 1), (103.0, "finish", None)))
    assert measure(reply).ttft_answer_s == 2.0


def test_events_are_not_tokens() -> None:
    """Speculative decoding: 3 events, 13 tokens."""
    reply = replace(
        THOUGHT,
        events=events((101.0, "text", 5), (102.0, "text", 4), (103.0, "text", 4), (103.0, "finish", None)),
        usage=Usage(prompt_tokens=50, completion_tokens=13, cached_tokens=0),
        timings=ServerTimings(predicted_n=13, predicted_ms=2000.0, draft_n=16, draft_n_accepted=10),
    )
    timing = measure(reply)
    assert timing.decode_tps_client == pytest.approx(8 / 2.0)
    assert timing.draft_accept_rate == pytest.approx(10 / 16)
    assert timing.itl_p50_s == pytest.approx(0.25)


def test_only_reasoning() -> None:
    reply = replace(THOUGHT, text="", events=events((101.0, "reasoning", 1), (102.0, "reasoning", 2)))
    timing = measure(reply)
    assert timing.ttft_any_s == 1.0
    assert timing.ttft_answer_s is None
    assert timing.reasons["ttft_answer_s"] == "the reply holds no answer, only reasoning"
    assert (timing.reasoning_tokens, timing.answer_tokens) == (14, 0)


def test_nothing_arrived() -> None:
    timing = measure(ChatResult(text="", reasoning="", finish_reason=None, events=(), started_s=1.0, ended_s=2.0))
    assert timing.e2e_s == 1.0
    unknown = {each.name for each in fields(Timing)} - {"e2e_s", "reasons", "flags"}
    assert {name for name in unknown if getattr(timing, name) is None} == unknown
    assert set(timing.reasons) == unknown


def test_a_server_without_timings() -> None:
    """Another engine: usage with reasoning tokens, no counts in the events."""
    reply = replace(
        THOUGHT,
        events=tuple(event._replace(tokens=None) for event in THOUGHT.events),
        timings=None,
        usage=Usage(prompt_tokens=50, completion_tokens=14, reasoning_tokens=11),
    )
    timing = measure(reply)
    assert (timing.reasoning_tokens, timing.answer_tokens) == (11, 3)
    assert timing.prefill_tps is None
    assert timing.decode_tps is None
    assert timing.cached_tokens is None
    assert timing.decode_tps_client == pytest.approx(13 / 3.0)
    assert {"prefill_tps", "decode_tps", "cached_tokens"} <= set(timing.reasons)


def test_a_server_that_does_not_part_reasoning_from_answer() -> None:
    reply = replace(
        THOUGHT,
        events=tuple(event._replace(tokens=None) for event in THOUGHT.events),
        usage=Usage(prompt_tokens=50, completion_tokens=14),
    )
    timing = measure(reply)
    assert timing.reasoning_tokens is None
    assert timing.answer_tokens is None
    assert timing.reasons["reasoning_tokens"] == "the server counts reasoning and answer together"
    assert timing.completion_tokens == 14


def test_a_partial_reply_counts_by_its_events() -> None:
    reply = replace(THOUGHT, finish_reason=None, usage=None, timings=None, events=THOUGHT.events[:4])
    timing = measure(reply)
    assert timing.completion_tokens == 11
    assert (timing.reasoning_tokens, timing.answer_tokens) == (10, 1)
    assert timing.decode_tps_client == pytest.approx(10 / 2.0)


def test_one_token_has_no_rate() -> None:
    reply = replace(
        THOUGHT,
        events=events((101.0, "text", 1), (101.0, "finish", None)),
        usage=Usage(prompt_tokens=50, completion_tokens=1, cached_tokens=0),
        timings=ServerTimings(prompt_n=50, prompt_ms=500.0, predicted_n=1, predicted_ms=0.001, cache_n=0),
    )
    timing = measure(reply)
    assert timing.decode_tps is None
    assert timing.decode_tps_client is None
    assert timing.itl_p50_s is None


def test_a_cached_prompt_is_flagged() -> None:
    reply = replace(
        THOUGHT,
        usage=Usage(prompt_tokens=50, completion_tokens=14, cached_tokens=49),
        timings=ServerTimings(prompt_n=1, prompt_ms=0.6, predicted_n=14, predicted_ms=3000.0, cache_n=49),
    )
    timing = measure(reply)
    assert timing.flags == (CACHED_PROMPT,)
    assert timing.cached_tokens == 49
    assert timing.prefill_tps == pytest.approx(1 / 0.0006)


def test_clocks_that_disagree_are_flagged() -> None:
    timings = THOUGHT.timings
    assert timings is not None
    assert RATES_DIFFER not in measure(replace(THOUGHT, timings=replace(timings, predicted_ms=3140.0))).flags
    assert RATES_DIFFER in measure(replace(THOUGHT, timings=replace(timings, predicted_ms=3170.0))).flags


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None)
def test_percentiles(values: list[float], lower: float, upper: float) -> None:
    ordered = sorted(values)
    assert percentile(ordered, 0.0) == ordered[0]
    assert percentile(ordered, 1.0) == ordered[-1]
    low, high = sorted((lower, upper))
    assert percentile(ordered, low) <= percentile(ordered, high) * (1 + 1e-12) + 1e-12


_kinds = st.sampled_from(["role", "reasoning", "text", "tool", "usage", "finish"])
_counts = st.none() | st.integers(0, 50)


@given(
    st.lists(st.tuples(st.floats(0, 10), _kinds, _counts), max_size=20),
    st.none() | st.builds(Usage, prompt_tokens=_counts, completion_tokens=_counts, cached_tokens=_counts,
                          reasoning_tokens=_counts),
    st.none() | st.builds(ServerTimings, prompt_n=_counts, prompt_ms=st.none() | st.floats(0, 100), predicted_n=_counts,
                          predicted_ms=st.none() | st.floats(0, 100), cache_n=_counts, draft_n=_counts,
                          draft_n_accepted=_counts),
)  # fmt: skip
@settings(deadline=None)
def test_whatever_a_server_says(
    steps: list[tuple[float, EventKind, int | None]], usage: Usage | None, timings: ServerTimings | None
) -> None:
    """A value or a reason, never both nor neither; nothing negative."""
    arrived = events(*sorted(steps, key=lambda step: step[0]))
    reply = ChatResult(text="", reasoning="", finish_reason=None, events=arrived, started_s=0.0, ended_s=10.0,
                       usage=usage, timings=timings)  # fmt: skip
    timing = measure(reply)
    for each in fields(Timing):
        value = getattr(timing, each.name)
        if each.name in {"reasons", "flags"}:
            continue
        assert (value is None) == (each.name in timing.reasons), each.name
        assert value is None or value >= 0
