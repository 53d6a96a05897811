"""The parts of the grader of go-v2 that need no Go: flags, readings, the mock, eviction, verdicts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest

from runners.exams import get_exam
from runners.exams.base import Reply
from runners.exams.go import eviction
from runners.exams.go_v2.flags import Flags, read_flags
from runners.exams.go_v2.judging import TESTS, Runs, judge
from runners.exams.go_v2.mock import Mock
from runners.exams.go_v2.plans import QUICK_OUTAGE, QUICK_SIZE, SLOW_OUTAGE, SLOW_SIZE, plans
from runners.exams.go_v2.reading import read_reply
from runners.exams.go_v2.readings import Readings
from runners.exams.go_v2.scenarios import Outage, Seen
from runners.outcomes import Outcome
from runners.sandbox.base import Completed
from tests.runners.exams.graded import grade as grade_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from runners.sandbox import Sandbox

USAGE = """Usage of scraper:
  -buffer-size int
    \tmost readings that are kept (default 1000)
  -flush-batch-size int
    \thow many at once (default 10)
  -flush-interval duration
    \tpause between two tries (default 1s)
  -interval duration
    \ttime between two readings (default 10s)
  -inverter-host string
    \thost
  -v\tsay more
"""


@pytest.mark.parametrize(
    ("usage", "words"),
    [
        (USAGE, ["-interval=10ms", "-buffer-size=7", "-flush-interval=200ms"]),
        (
            USAGE.replace("duration", "int").replace("0s)", "0)").replace("1s)", "1)"),
            ["-interval=1", "-buffer-size=7", "-flush-interval=1"],
        ),
        (USAGE.replace("-interval duration", "-interval value"), ["-interval=10ms", "-buffer-size=7"]),
        (USAGE.replace("-buffer-size", "-queue-capacity"), ["-interval=10ms", "-queue-capacity=7"]),
        ("  -interval duration\n", ["-interval=10ms"]),
        ("", ["-interval=10ms", "-buffer-size=7"]),
        ("scraper: keeps what it reads\n", ["-interval=10ms", "-buffer-size=7"]),
        ('  -interval string\n    \tpause (default "10s")\n', ["-interval=10ms"]),
        ("  -interval int\n  -retry-delay-ms int\n", ["-interval=1", "-retry-delay-ms=1"]),
        ("  -interval duration\n  -max-retries int\n  -retry-timeout duration\n", ["-interval=10ms"]),
    ],
)
def test_flags_are_read_as_they_are_called(usage: str, words: list[str]) -> None:
    found = Flags(**read_flags(usage)).words(7, "200ms")
    assert found[: len(words)] == words
    assert not [word for word in found if "batch" in word or "retries" in word or "timeout" in word]


def metric(document: bytes, **changed: Any) -> bytes:
    """What a program makes of the inverter's document."""
    found = re.findall(r'Value="([\d.]+)" Unit="(\w+)" Type="(\w+)"', document.decode())
    fields = {f"{kind}_{unit}": float(value) for value, unit, kind in found}
    made = {"timestamp": "2026-01-02T03:04:05Z", "device_name": "Sunny Roof 3600", "fields": fields, **changed}
    return json.dumps(made).encode()


def test_a_reading_is_known_by_its_number_and_its_mark() -> None:
    readings = Readings()
    one, other = readings.take(), readings.take()
    assert (readings.number_of(metric(one)), readings.number_of(metric(other))) == (1, 2)
    made_up = json.loads(metric(other))
    made_up["fields"]["OwnConsumedPower_W"] = 100.0
    for body in (
        json.dumps(made_up).encode(),
        metric(one, fields={"OwnConsumedPower_W": 100.0}),
        metric(one, fields=None),
        metric(one, timestamp=""),
        metric(one, device_name=None),
        b"[" + metric(one) + b"]",
        b"[" * 5000,
        b"\xff",
        b"",
    ):
        assert readings.number_of(body) is None


def with_mock(work: Callable[[Mock, int], Coroutine[Any, Any, None]]) -> Mock:
    """Runs `work` beside a mock on a port."""

    async def run() -> Mock:
        mock = Mock()
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        await mock.open(listener)
        try:
            await asyncio.wait_for(work(mock, listener.getsockname()[1]), 60)
        finally:
            await mock.close()
        return mock

    return asyncio.run(run())


async def ask(port: int, *texts: bytes) -> bytes:
    """What comes back on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = b""
    with contextlib.suppress(ConnectionError):
        for text in texts:
            writer.write(text)
        writer.write_eof()
        answers = await reader.read()
    writer.close()
    return answers


def post(body: bytes) -> bytes:
    return b"POST /write HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body


SCRAPE = b"GET /measurements.xml HTTP/1.1\r\nHost: a\r\n\r\n"


def test_the_mock_takes_readings_and_can_be_taken_away() -> None:
    async def work(mock: Mock, port: int) -> None:
        document = (await ask(port, SCRAPE)).partition(b"\r\n\r\n")[2]
        body = metric(document)
        assert b" 204 " in await ask(port, post(body))
        chunked = b"POST /write HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        twice = await ask(port, chunked, post(body))
        assert twice.count(b" 204 ") == 2
        mock.sink = "refusing"
        assert b" 503 " in await ask(port, post(body))
        mock.sink = "dropping"
        assert await ask(port, post(body)) == b""
        assert b" 200 " in await ask(port, SCRAPE)
        mock.sink, mock.source = "online", False
        assert b" 503 " in await ask(port, SCRAPE)
        assert b" 200 " in await ask(port, b"HEAD / HTTP/1.1\r\n\r\n")
        assert b" 400 " in await ask(port, post(b"{}"))

    mock = with_mock(work)
    assert [arrival.number for arrival in mock.arrivals] == [1, 1, 1]
    assert (mock.scrapes, mock.turned_away, mock.tried, mock.malformed) == (2, 2, {1}, 1)


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a" * 40_000,
        b"POST /write HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
        b"POST /write HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /write HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        b"POST /write HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
def test_what_is_no_request_ends_its_connection_and_no_other(text: bytes) -> None:
    async def work(_mock: Mock, port: int) -> None:
        assert await ask(port, text) == b""
        assert b" 200 " in await ask(port, SCRAPE)

    mock = with_mock(work)
    assert mock.malformed == 1
    assert not mock.arrivals


def test_waiting_ends_when_it_holds_and_at_the_limit() -> None:
    async def work(mock: Mock, port: int) -> None:
        assert not await mock.until(lambda: mock.scrapes > 0, 0.05)
        asking = asyncio.create_task(ask(port, SCRAPE))
        assert await mock.until(lambda: mock.scrapes > 0, 30)
        await asking

    with_mock(work)


def overwritten(size: int, count: int, chance: random.Random) -> set[int]:
    """What is left where each reading that finds no room overwrites a random one."""
    kept = list(range(1, size + 1))
    for number in range(size + 1, count + 1):
        kept[chance.randrange(size)] = number
    return set(kept)


def reservoir(size: int, count: int, chance: random.Random) -> set[int]:
    """What is left where each reading has the same chance."""
    return set(chance.sample(range(1, count + 1), size))


@pytest.mark.parametrize("rule", [overwritten, reservoir])
def test_random_eviction_is_taken_for_random(rule: Callable[[int, int, random.Random], set[int]]) -> None:
    chance = random.Random(1)
    for _ in range(1000):
        outages = [(rule(QUICK_SIZE, QUICK_OUTAGE, chance), QUICK_OUTAGE) for _ in range(2)]
        assert eviction.judge(outages, QUICK_SIZE, quick=True) == ""


PATTERNS = {
    "oldest": set(range(51, 101)),
    "newest": {*range(1, 50), 100},
    "middle": {*range(1, 26), *range(76, 101)},
    "every other": set(range(1, 101, 2)),
    "unbounded": set(range(1, 101)),
    "few": set(range(1, 20)),
    "by halves": set(range(71, 101)),
}


@pytest.mark.parametrize("kept", PATTERNS.values(), ids=PATTERNS)
def test_a_pattern_is_not_taken_for_random(kept: set[int]) -> None:
    later = {number + 1 for number in kept}
    assert eviction.judge([(kept, QUICK_OUTAGE), (later, QUICK_OUTAGE)], QUICK_SIZE, quick=True)


SLOW_PATTERNS = {
    "oldest": [*range(6, 16)],
    "oldest, but for the last": [5, *range(7, 16)],
    "newest": [*range(1, 10), 15],
    "middle": [*range(1, 6), *range(11, 16)],
}


@pytest.mark.parametrize("kept", SLOW_PATTERNS.values(), ids=SLOW_PATTERNS)
def test_a_pattern_is_not_taken_for_random_once_a_second(kept: list[int]) -> None:
    assert eviction.judge([(set(kept), SLOW_OUTAGE)] * 6, SLOW_SIZE, quick=False)


@pytest.mark.parametrize("rule", [overwritten, reservoir])
def test_random_eviction_is_taken_for_random_once_a_second(
    rule: Callable[[int, int, random.Random], set[int]],
) -> None:
    chance = random.Random(3)
    for _ in range(500):
        outages = [(rule(SLOW_SIZE, SLOW_OUTAGE, chance), SLOW_OUTAGE) for _ in range(6)]
        assert eviction.judge(outages, SLOW_SIZE, quick=False) == ""


def test_the_report_s_spread_takes_the_oldest_for_random() -> None:
    assert eviction.spread(list(range(51, 101))) == 0.5
    assert eviction.spread([*range(60, 101), 1]) < 0.1
    assert eviction.spread([]) == 0.0


def ended(exit_code: int | None = 0, stderr: bytes = b"") -> Completed:
    return Completed(exit_code, None, b"", stderr, "ok" if exit_code == 0 else "nonzero", 1.0)


def runs(**changed: Seen) -> Runs:
    """What a program shows that does everything right."""
    chance = random.Random(2)
    seen = {}
    for name, plan in plans(quick=True).items():
        outages, since = [], 3
        for count, _ in plan.outages:
            kept = overwritten(min(plan.size, count), count, chance) if plan.size else set()
            outage = Outage(since + 1, since, since, since + count, scraped=True, alive=True)
            outage.kept = [since + number for number in kept]
            outage.kept_in_5_s, outage.live = len(kept), 12
            outages.append(outage)
            since = outage.last + 12
        seen[name] = Seen(name, plan.size, online=True, outages=outages, completed=ended())
        seen[name].stopped = True if plan.leave else None
    return Runs(
        {**seen, **{name.replace("_", " "): each for name, each in changed.items()}}, True, has_buffer_flag=True
    )


def lost(scoring: str, found: Runs) -> list[str]:
    return [name for name, why in judge(found, scoring).items() if why]


def test_a_right_program_passes_all_but_what_the_report_counted_wrongly() -> None:
    assert lost("corrected", runs()) == []
    assert lost("published", runs()) == ["BufferBounded"]


def test_what_the_runs_show_decides_the_tests() -> None:
    nothing = {name: Seen(name, 0, ended_early=True, completed=ended(2)) for name in runs().seen}
    assert lost("corrected", Runs(nothing, True, has_buffer_flag=True)) == list(TESTS)
    assert lost("corrected", runs(race=Seen("race", 5, online=True, completed=ended(66)))) == ["RaceDetector"]
    racy = runs().seen["race"]
    racy.completed = ended(0, b"WARNING: DATA RACE\n")
    assert lost("corrected", runs(race=racy)) == ["RaceDetector"]
    hung = runs().seen["stop offline"]
    hung.stopped = False
    assert lost("corrected", runs(stop_offline=hung)) == ["GracefulShutdown"]
    assert lost("published", runs(stop_offline=hung)) == ["BufferBounded"]
    refusing = Seen("zero", 0, ended_early=True, completed=ended(2, b"buffer-size must be positive\n"))
    assert lost("corrected", runs(zero=refusing)) == []
    crashed = Seen("zero", 0, ended_early=True, completed=ended(2, b"panic: invalid argument to Intn\n"))
    assert lost("corrected", runs(zero=crashed)) == ["BufferSizeZero"]
    large = runs().seen["main"]
    large.outages[0].kept = list(range(large.outages[0].first, large.outages[0].last + 1))
    assert lost("corrected", runs(main=large)) == ["BufferBounded", "EvictionRandom"]
    twice = runs().seen["cycles"]
    twice.repeated = 3
    assert lost("corrected", runs(cycles=twice)) == ["MultipleOutageCycles"]


FILE = "#START main.go#\npackage main\n\nfunc main() {}\n#END main.go#\n"


def test_markers_inside_a_fence_are_noticed() -> None:
    assert not read_reply(FILE)["fenced_markers"]
    assert read_reply(f"```go\n{FILE}```\n")["fenced_markers"]
    inner = "#START main.go#\n```go\npackage main\n\nfunc main() {}\n```\n#END main.go#\n"
    assert not read_reply(f"```\nan example\n```\n{inner}")["fenced_markers"]
    assert read_reply(inner)["code"] == "package main\n\nfunc main() {}\n"


@pytest.mark.parametrize("line", ["//go:norace", 'import "C"', '\t"C"', "// GORACE"])
def test_a_way_around_the_race_detector_is_noticed(line: str) -> None:
    assert not read_reply(FILE)["dodge"]
    assert read_reply(FILE.replace("func main", f"{line}\nfunc main"))["dodge"]


def test_a_reply_without_a_program_loses_every_test_by_name(tmp_path: Path, sandbox: Sandbox) -> None:
    found = grade_reply(get_exam("go-v2"), Reply("I would rather not.", finish_reason="stop"), sandbox, tmp_path)
    assert found.outcome is Outcome.NO_CODE
    assert [item.name for item in found.items] == [*TESTS, *(f"published: {test}" for test in TESTS)]
    assert not any(item.passed for item in found.items)
