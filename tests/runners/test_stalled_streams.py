"""What the client makes of a server that falls silent, or that sends what stands for no work, over real sockets."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING

import pytest

from runners import stall
from runners.chat import ChatError, GenerationTimeoutError, ServerStalledError, TransportError
from runners.engines.wire import stream_chat
from runners.lookout import Lookout
from runners.outcomes import OutcomeClass, outcome_class
from runners.stall import OwnTime, Pace, Signs
from runners.timing import measure
from tests.runners.test_chat_wire import DONE, HEAD, USAGE, Server, SinceHeard, build, chunk, delta, event, server

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

__all__ = ["server"]  # a fixture

PATIENCE_S = 60.0
ROLE = delta(role="assistant", content=None)


def sends_then_hangs(*parts: bytes, release: threading.Event) -> object:
    def behave(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        for part in parts:
            connection.sendall(chunk(part))
        release.wait(PATIENCE_S)

    return behave


@pytest.mark.usefixtures("hasty")
def test_a_stream_that_stops_is_a_stall_with_what_had_come(server: Server) -> None:
    release = threading.Event()
    url = server(sends_then_hangs(delta(content="he"), delta(content="llo"), release=release))  # type: ignore[arg-type]  # a behaviour
    with pytest.raises(ServerStalledError, match="did nothing") as caught:
        stream_chat(url, {}, timeout_s=PATIENCE_S, lookout=Lookout(lambda: Signs(steps=2, cpu_s=1.0)))
    release.set()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "hello"
    assert outcome_class(caught.value.outcome) is OutcomeClass.INFRASTRUCTURE


@pytest.mark.usefixtures("hasty")
def test_a_silent_engine_that_works_is_waited_for_and_its_first_token_timed(server: Server) -> None:
    cpu_s = [0.0]

    def look() -> Signs:
        cpu_s[0] += 1.0
        time.sleep(0.3)  # a look that takes its time must not delay the reading of the clock
        return Signs(answered=False, cpu_s=cpu_s[0])

    sent: list[float] = []

    def behave(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        time.sleep(2.5)
        sent.append(time.monotonic())
        for part in (delta(content="hi"), delta("stop"), USAGE, DONE):
            connection.sendall(chunk(part))
        connection.sendall(b"0\r\n\r\n")

    result = stream_chat(server(behave), {}, timeout_s=PATIENCE_S, lookout=Lookout(look))
    assert result.text == "hi"
    assert 0 <= result.events[0].at_s - sent[0] < 0.25


def test_a_sleep_of_this_process_costs_no_answer_and_spoils_its_times(server: Server) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 400.0 if now[0] > 0.5 and not slept else 0.01
        slept.extend([1] if now[0] > 400 else [])
        return now[0]

    slept: list[int] = []

    def behave(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        for _ in range(40):
            connection.sendall(chunk(delta(content="x")))
            time.sleep(0.02)
        for part in (delta("stop"), USAGE, DONE):
            connection.sendall(chunk(part))
        connection.sendall(b"0\r\n\r\n")

    lookout = Lookout(Signs, own_time=OwnTime(clock))
    result = stream_chat(server(behave), {}, timeout_s=30.0, lookout=lookout)
    assert result.text == "x" * 40
    assert result.missed_s == pytest.approx(398.0, abs=0.1)
    timing = measure(result)
    assert (timing.ttft_any_s, timing.e2e_s, timing.itl_p50_s) == (None, None, None)
    assert timing.reasons["e2e_s"] == "this process did not run for 398 s meanwhile (stopped, or asleep)"


# --- what is no sign of life ----------------------------------------------------------------------------------------


def idle() -> Signs:
    """A server that answers and does nothing."""
    return Signs(steps=0, cpu_s=1.0)


def busy() -> Signs:
    return Signs(cpu_s=time.monotonic())


def fails() -> Signs:
    """A look that fails is none, and ends no others."""
    raise OverflowError("cannot convert float infinity to integer")


def progress(processed: float, total: int = 100) -> bytes:
    said = {"total": total, "cache": 0, "processed": processed, "time_ms": 5}
    return event(choices=[{"delta": {"role": "assistant", "content": None}}], prompt_progress=said)


NOISE = {
    "comments": b": ping\n\n",
    "no choices": event(choices=[]),
    "an empty chunk": b"data: {}\n\n",
    "roles": ROLE,
    "empty texts": delta(content="", reasoning_content=""),
    "empty tool calls": delta(tool_calls=[{"index": 0, "function": {"arguments": ""}}]),
    "progress that stands still": progress(50),
    "progress that goes back": progress(0),
    "progress that is no number": progress(float("inf")),
    "a count that stands still": event(choices=[], timings={"predicted_n": 0, "prompt_n": 50, "prompt_ms": 5.0}),
    "usage that stands still": USAGE,
    "no JSON": b"data: hello\n\n",
    "an event that never ends": b"data: x\n",
}


def repeats(*before: bytes, noise: bytes, every_s: float) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        for part in before:
            connection.sendall(chunk(part))
        while True:
            connection.sendall(chunk(noise))
            time.sleep(every_s)

    return behave


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(("noise", "every_s"), [*((name, 0.02) for name in NOISE), ("no choices", 0.15)])
def test_what_says_nothing_is_no_sign_of_life(
    server: Server, monkeypatch: pytest.MonkeyPatch, noise: str, every_s: float
) -> None:
    """Threads that keep a connection open answer for a loop that hangs, however often they do."""
    monkeypatch.setattr(stall, "IDLE_S", 0.2)
    url = server(repeats(ROLE, progress(50), noise=NOISE[noise], every_s=every_s))
    with pytest.raises(ServerStalledError, match="did nothing"):
        stream_chat(url, {}, timeout_s=PATIENCE_S, lookout=Lookout(idle))


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(("noise", "look"), [("no choices", busy), ("roles", idle), ("comments", idle)])
def test_nor_is_it_when_the_time_is_up(server: Server, noise: str, look: Callable[[], Signs]) -> None:
    url = server(repeats(ROLE, noise=NOISE[noise], every_s=0.1))
    with pytest.raises(ServerStalledError, match="when the reply's time was up") as caught:
        stream_chat(url, {}, timeout_s=0.2, lookout=Lookout(look))
    assert outcome_class(caught.value.outcome) is OutcomeClass.INFRASTRUCTURE


def test_what_are_signs_of_life() -> None:
    signs = [
        progress(10),
        progress(20),
        delta(reasoning_content="x"),
        delta(content="x"),
        delta(tool_calls=[{"index": 0, "function": {"name": "read"}}]),
        event(choices=[], timings={"predicted_n": 1}),
        event(choices=[], timings={"predicted_n": 2}),
        event(choices=[], timings={"prompt_n": 30}),
        delta("stop"),
        USAGE,
        DONE,
    ]
    for number in range(1, len(signs) + 1):
        assert build(*signs[:number]).signs > build(*signs[: number - 1]).signs, signs[number - 1]
    for noise in NOISE.values():
        quiet = build(ROLE, progress(50), USAGE, event(choices=[], timings={"prompt_n": 50}))
        before = quiet.signs
        quiet.take(noise.removeprefix(b"data: ").strip(), 9.0)
        assert quiet.signs == before, noise


def test_what_says_nothing_is_no_token_and_takes_no_memory() -> None:
    """An empty piece of a tool call was a first token; a role, repeated for hours, millions of events."""
    empty = delta(tool_calls=[{"index": 0, "function": {"arguments": ""}}])
    builder = build(*[ROLE] * 5, *[empty] * 5, *[NOISE["no choices"]] * 5)
    assert not builder.generating
    assert [each.kind for each in builder.result(99.0).events] == ["role"]
    counted = delta(tool_calls=[{"index": 0}], timings={"predicted_n": 2})
    assert [(each.kind, each.tokens) for each in build(ROLE, counted).result(9.0).events][1:] == [("tool", 2)]


# --- when the time is up --------------------------------------------------------------------------------------------


def steadily(parts: Callable[[int], bytes], every_s: float) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        connection.sendall(HEAD + chunk(ROLE))
        for number in itertools.count():
            connection.sendall(chunk(parts(number)))
            time.sleep(every_s)

    return behave


def at_the_limit(url: str, look: Callable[[], Signs], timeout_s: float, pace: Pace | None = None) -> ChatError:
    """How the reply ends whose limit is counted from its first event on."""
    clock = SinceHeard()
    lookout = Lookout(look, pace=pace, own_time=OwnTime(clock))
    with pytest.raises(ChatError) as caught:
        stream_chat(url, {}, timeout_s=timeout_s, lookout=lookout, on_event=clock.hear)
    return caught.value


@pytest.mark.parametrize(
    "parts",
    [
        lambda _: delta(content="x"),
        lambda _: delta(reasoning_content="x"),
        lambda number: progress(number, 10**6),
        lambda number: event(choices=[], timings={"predicted_n": number}),
    ],
)
@pytest.mark.parametrize("every_s", [0.02, 0.7])
def test_who_goes_on_has_used_up_its_budget(server: Server, parts: Callable[[int], bytes], every_s: float) -> None:
    """However slow: the first sign of life after the limit ends the reply."""
    error = at_the_limit(server(steadily(parts, every_s)), busy, 0.3)
    assert type(error) is GenerationTimeoutError
    assert outcome_class(error.outcome) is OutcomeClass.BUDGET


def test_a_count_that_grows_where_nobody_sees_it_is_the_budgets(server: Server) -> None:
    steps = itertools.count(1)
    release = threading.Event()
    url = server(sends_then_hangs(delta(content="he"), release=release))  # type: ignore[arg-type]  # a behaviour
    error = at_the_limit(url, lambda: Signs(steps=next(steps), cpu_s=1.0), 0.3)
    release.set()
    assert type(error) is GenerationTimeoutError


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("look", "says"),
    [
        (lambda: Signs(stopped=True, answered=False, cpu_s=1.0), "is stopped"),
        (idle, "did nothing"),
        (lambda: Signs(answered=False, cpu_s=1.0), "neither answered nor worked"),
        (busy, "although it was busy"),
        (lambda: Signs(answered=False), "could not be seen"),
        (fails, "could not be seen"),
    ],
)
def test_silence_at_the_limit_is_the_engines(server: Server, look: Callable[[], Signs], says: str) -> None:
    release = threading.Event()
    url = server(sends_then_hangs(delta(content="he"), release=release))  # type: ignore[arg-type]  # a behaviour
    error = at_the_limit(url, look, 0.3)
    release.set()
    assert type(error) is ServerStalledError
    assert says in error.message
    assert error.partial is not None
    assert error.partial.text == "he"


@pytest.mark.usefixtures("hasty")
def test_a_long_prompt_whose_first_token_was_not_due_yet_is_the_budgets(server: Server) -> None:
    """One batch, no progress to be seen, and by the warm-up's speed it takes longer than the reply may."""
    release = threading.Event()
    url = server(sends_then_hangs(ROLE, release=release))  # type: ignore[arg-type]  # a behaviour
    error = at_the_limit(url, busy, 0.3, pace=Pace(prefill_s=100.0))
    release.set()
    assert type(error) is GenerationTimeoutError


def looked_at(then: Callable[[socket.socket], None]) -> tuple[Callable[[socket.socket], None], Callable[[], Signs]]:
    """A server that does `then` once its reply's time is up, which is when it is looked at, and the look."""
    looked = threading.Event()

    def behave(connection: socket.socket) -> None:
        connection.sendall(HEAD + chunk(ROLE))
        looked.wait(PATIENCE_S)
        then(connection)

    def look() -> Signs:
        looked.set()
        return busy()

    return behave, look


def test_a_server_that_goes_away_after_the_limit_is_gone_and_not_slow(server: Server) -> None:
    behave, look = looked_at(lambda connection: connection.close())
    assert type(at_the_limit(server(behave), look, 0.3)) is TransportError


def test_a_whole_reply_that_comes_after_the_limit_is_too_late(server: Server) -> None:
    def then(connection: socket.socket) -> None:
        connection.sendall(chunk(b"".join((delta(content="hi"), delta("stop"), USAGE, DONE))) + b"0\r\n\r\n")
        connection.recv(1)

    behave, look = looked_at(then)
    assert type(at_the_limit(server(behave), look, 0.3)) is GenerationTimeoutError
