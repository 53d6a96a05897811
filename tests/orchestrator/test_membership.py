"""Who is alive, when the head answers, is slow, is silent or is gone."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from orchestrator.cluster import membership as module
from orchestrator.cluster.membership import REFUSED_S, SILENT_S, Membership, RayNode
from orchestrator.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE, TWO = RayNode("1", "one", "10.0.0.1"), RayNode("2", "two", "10.0.0.2")


class Head:
    """A head whose answers, silence and clock a test decides."""

    def __init__(self) -> None:
        self.alive = [ONE, TWO]
        self.now_s = 0.0
        self.answers, self.refuses = True, False
        self.hangs = threading.Event()
        self.hangs.set()

    def ask(self) -> list[RayNode]:
        self.hangs.wait(10)
        if not self.answers:
            raise OSError
        return list(self.alive)


@pytest.fixture
def head() -> Head:
    return Head()


def watched(head: Head, *, own: bool = False) -> Iterator[Membership]:
    found = Membership(head.ask, lambda: head.refuses, name="head:6379", own=own, node_id="1", clock=lambda: head.now_s)
    found.start()
    yield found
    head.hangs.set()
    found.stop()


@pytest.fixture
def membership(head: Head, monkeypatch: pytest.MonkeyPatch) -> Iterator[Membership]:
    monkeypatch.setattr(module, "ASK_EVERY_S", 0.02)
    yield from watched(head)


@pytest.fixture
def own(head: Head, monkeypatch: pytest.MonkeyPatch) -> Iterator[Membership]:
    monkeypatch.setattr(module, "ASK_EVERY_S", 0.02)
    yield from watched(head, own=True)


def test_a_node_that_is_gone_is_gone_in_the_next_answer(head: Head) -> None:
    """Nobody waits for the next second: an agent's death and its node's are learnt at the same moment."""
    for membership in watched(head):
        for alive in ([ONE], [ONE, TWO]) * 8:
            membership.nodes()
            head.alive = alive
            assert membership.nodes() == alive


def test_a_silent_head_is_believed_for_a_while_and_then_lost(head: Head, membership: Membership) -> None:
    assert membership.nodes() == [ONE, TWO]
    head.answers = False
    head.now_s += SILENT_S - 1
    assert membership.nodes() == [ONE, TWO]
    assert membership.silent_s == SILENT_S - 1
    head.now_s += 2
    with pytest.raises(ClusterError, match=r"head:6379: the cluster's head is gone: it does not answer for 46 s"):
        membership.nodes()


def test_a_head_that_comes_back_is_believed_again(head: Head, membership: Membership) -> None:
    membership.nodes()
    head.answers = False
    head.now_s += SILENT_S - 1
    membership.nodes()
    head.answers, head.alive = True, [ONE]
    while membership.silent_s:
        time.sleep(0.01)
    assert membership.nodes() == [ONE]


def test_a_head_whose_port_refuses_is_lost_sooner(head: Head, membership: Membership) -> None:
    membership.nodes()
    head.answers, head.refuses = False, True
    head.now_s += REFUSED_S + 1
    with pytest.raises(ClusterError, match="refuses connections for 16 s"):  # noqa: PT012 - it is learnt soon, not at once
        while True:
            membership.nodes()


def test_a_call_that_hangs_holds_nobody_up(head: Head, membership: Membership) -> None:
    membership.nodes()
    head.hangs.clear()
    begun = time.monotonic()
    for _ in range(4):
        head.now_s += 1
        assert membership.nodes() == [ONE, TWO]
    head.now_s += SILENT_S
    with pytest.raises(ClusterError):
        membership.nodes()
    assert time.monotonic() - begun < 8, "the hanging call took 10 s"


def test_a_head_that_never_answers_is_given_up(head: Head, membership: Membership) -> None:
    head.answers = False
    threading.Timer(0.2, lambda: setattr(head, "now_s", SILENT_S + 1)).start()
    with pytest.raises(ClusterError, match="is gone"):
        Membership(head.ask, lambda: False, name="x", own=False, node_id="1", clock=lambda: head.now_s).nodes()


def test_our_own_cluster_without_its_node_is_at_its_end(head: Head, own: Membership) -> None:
    assert own.nodes() == [ONE, TWO]
    head.alive = []
    with pytest.raises(ClusterError, match="raylet"):
        own.nodes()


def test_a_process_whose_node_the_cluster_gave_up_is_told(head: Head, membership: Membership) -> None:
    """It happens to a node that stood still for a while: Ray counts its drivers as dead, and they are not told."""
    assert membership.nodes() == [ONE, TWO]
    head.alive = [TWO]
    with pytest.raises(ClusterError, match="raylet") as caught:
        membership.nodes()
    assert "a node of the cluster again" in str(caught.value.hint)
