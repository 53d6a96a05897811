"""A server that has too much to do is left alone as it asks, and its hostile wishes are bounded."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import runners.pacing
from quants.models import EndpointModel
from runners.chat import Sampling
from runners.engines.endpoint_settings import OpenAISettings
from runners.engines.refusals import MOST_WAIT_S, retry_after_s
from runners.orders import CellOrder, PhaseChanged, Place, RowReady
from runners.pacing import MOST_ASKED_S, AskedWaits
from runners.work import Cell
from tests.runners.endpoint_servers import KEY, EndpointServer, Played, json_answer, sse
from tests.runners.test_cell import JOB, Lease, leases, row_of
from tests.runners.test_openai_endpoint import USAGE, VARIABLE, chunk

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["leases"]

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "12"}, 12.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "60", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=90), usegmt=True)}, 90.0),
        ({"retry-after": format_datetime(NOW - timedelta(days=9), usegmt=True)}, 0.0),
        ({"retry-after": "1e300"}, MOST_WAIT_S),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, MOST_WAIT_S),
        *(({"retry-after": odd}, None) for odd in ("", "-1", "nan", "inf", "soon", "9" * 200, "31 Feb 2026", "\x00")),
        ({}, None),
    ],
)
def test_what_a_server_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW) == seconds


@given(st.text(max_size=120))
def test_whatever_it_says_is_a_time_or_nothing(text: str) -> None:
    found = retry_after_s({"retry-after": text}, NOW)
    assert found is None or 0 <= found <= MOST_WAIT_S


@given(st.lists(st.one_of(st.none(), st.floats(0, 1e9)), max_size=200))
def test_the_waits_of_an_attempt_are_bounded_together(asked: list[float | None]) -> None:
    waits = AskedWaits()
    given_up = False
    for each in asked:
        wait_s = waits.next_s(each)
        given_up = given_up or wait_s is None
        assert wait_s is None or wait_s > 0
    assert waits.waited_s <= MOST_ASKED_S
    assert given_up or sum(each or 0 for each in asked) <= MOST_ASKED_S + 1e-6


def test_waits_grow_while_the_server_does_not_say_how_long() -> None:
    waits = AskedWaits()
    assert [waits.next_s(None) for _ in range(7)] == [2, 4, 8, 16, 32, 60, 60]


def order_for(server: EndpointServer, **settings: Any) -> CellOrder:
    mine: dict[str, Any] = {"base_url": server.url, "key_env": VARIABLE, "price_in": 2.0, "price_out": 10.0}
    engine = OpenAISettings(**{"currency": "USD", **mine, **settings})
    return CellOrder(
        run_id="run",
        sweep="test",
        lease_id="L1",
        cell=Cell("c1", EndpointModel("cloudy", server.url, "gpt-x"), "", engine, Sampling(max_tokens=30)),
        place=Place(devices=(), endpoint="cloud#1", hardware_class="endpoint-cloud-1"),
        scoring={"todo": "strict"},
        generation_timeout_s=60.0,
        overlap_grading=True,
    )


def lease_with(
    leases: list[Lease], monkeypatch: pytest.MonkeyPatch, server: EndpointServer, jobs: int = 1, **settings: Any
) -> Lease:
    monkeypatch.setenv(VARIABLE, KEY)
    lease = Lease(order_for(server, **settings))
    leases.append(lease)
    for number in range(jobs):
        lease.cell.assign(dataclasses.replace(JOB, job_id=f"v1-{number}", seed=number))
    lease.cell.close()
    return lease


def notes(events: Sequence[object]) -> list[str]:
    return [event.note for event in events if isinstance(event, PhaseChanged) and event.note]


ANSWER = Played(pieces=[sse(chunk(content="no program"), chunk("stop"), USAGE)])
BUSY = json_answer({"error": {"message": f"slow down {KEY}", "type": "rate_limit_error"}}, 429, Retry_After="0.3")


def test_a_lease_waits_as_it_is_asked_to_and_counts_it_against_nobody(
    monkeypatch: pytest.MonkeyPatch, leases: list[Lease]
) -> None:
    with EndpointServer(BUSY, BUSY, ANSWER) as server:
        lease = lease_with(leases, monkeypatch, server)
        row = row_of(lease.wait_for(RowReady))
        assert lease.finish().how == "done"
        assert len(server.posts) == 3
    assert (row["outcome"], row["attempt"]) == ("no_code", 1)
    assert (row["provider_version"], row["currency"]) == ("gpt-x-2026-01-01", "USD")
    assert row["cost"] == pytest.approx((20 * 2.0 + 9 * 10.0) / 1e6)
    said = notes(lease.seen)
    assert len(said) == 2
    assert said[0].startswith(f"asked to wait 0 s by {server.url} gpt-x: ")
    assert KEY not in repr(lease.seen)
    assert "key_env" not in row["engine_settings"]


def test_cached_tokens_have_their_price_and_missing_counts_none(
    monkeypatch: pytest.MonkeyPatch, leases: list[Lease]
) -> None:
    uncounted = Played(pieces=[sse(chunk(content="a"), chunk("stop"))])
    with EndpointServer(ANSWER, uncounted) as server:
        lease = lease_with(leases, monkeypatch, server, jobs=2, price_cached=0.5)
        first, second = row_of(lease.wait_for(RowReady)), row_of(lease.wait_for(RowReady))
        lease.finish()
    assert first["cost"] == pytest.approx((4 * 2.0 + 16 * 0.5 + 9 * 10.0) / 1e6)
    assert second["cost"] is None
    assert json.loads(second["null_reasons"])["cost"] == "the provider did not say how many tokens it counted"
    assert second["currency"] == "USD"


def test_a_server_that_is_busy_for_ever_is_the_infrastructures(
    monkeypatch: pytest.MonkeyPatch, leases: list[Lease]
) -> None:
    monkeypatch.setattr(runners.pacing.AskedWaits.__init__, "__defaults__", (0.7,))
    with EndpointServer(BUSY) as server:
        lease = lease_with(leases, monkeypatch, server)
        row = row_of(lease.wait_for(RowReady))
        lease.finish()
        assert len(server.posts) == 3
    assert (row["outcome_class"], row["score"]) == ("infrastructure", None)
    assert "after 1 s in which it was left alone" in row["error"]
    assert KEY not in json.dumps(row)


def test_a_wait_ends_when_the_lease_is_cancelled(monkeypatch: pytest.MonkeyPatch, leases: list[Lease]) -> None:
    with EndpointServer(json_answer({}, 429, Retry_After="1000")) as server:
        lease = lease_with(leases, monkeypatch, server)
        while not (isinstance(event := lease.wait_for(PhaseChanged), PhaseChanged) and event.note):
            pass
        lease.cell.cancel()
        assert lease.finish().how == "cancelled"


@pytest.mark.parametrize(
    ("status", "error", "lasting"),
    [
        (400, {"message": "Unsupported parameter", "param": "max_tokens", "code": "unsupported_parameter"}, True),
        (401, {"message": "no"}, False),
    ],
)
def test_what_would_be_refused_again_ends_the_lease_without_a_row(
    monkeypatch: pytest.MonkeyPatch, leases: list[Lease], status: int, error: dict[str, str], lasting: bool
) -> None:
    with EndpointServer(json_answer({"error": error}, status)) as server:
        lease = lease_with(leases, monkeypatch, server, jobs=2)
        ended = lease.finish()
        assert len(server.posts) == 1
    assert (ended.how, ended.outcome, bool(ended.refused_by)) == ("failed", "server_start", lasting)
    assert "under [engine]" in ended.reason or VARIABLE in ended.reason
    assert not any(isinstance(event, RowReady) for event in lease.seen)
