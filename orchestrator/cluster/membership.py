"""Which nodes are alive, asked in a thread of its own, so that no caller ever waits for a head that is gone."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable

ASK_EVERY_S = 1.0
CALL_S = 3.0
"""How long one question to the head may take."""
FRESH_S = 0.5
"""How long a caller waits for news; what is older says that a node lives whose agent has just died with it."""
REFUSED_S = 15.0
"""A head whose port refuses is dead, and what it knew with it: this is for one that restarts with its memory."""
SILENT_S = 45.0
"""A head that does not answer may be stopped or cut off for a while; Ray's own nodes give up after 60 s."""


@dataclass(frozen=True, slots=True)
class RayNode:
    """A node that Ray says is alive."""

    node_id: str
    hostname: str
    address: str


class Membership:
    """Asks the head every second and whenever somebody wants to know, and says what it last knew.

    Args:
        ask: the nodes that are alive; may raise anything, must end within about `CALL_S` seconds.
        refuses: whether the head's port refuses connections now, which a live head's does not.
        name: of the cluster, for messages.
        own: the cluster is one machine that we started.
        node_id: of the node that this process belongs to. When the cluster gives that node up, which it does with one
            that did not answer for a while, this process counts as dead: each agent that it starts ends at once.
    """

    def __init__(
        self,
        ask: Callable[[], list[RayNode]],
        refuses: Callable[[], bool],
        *,
        name: str,
        own: bool,
        node_id: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._refuses, self._name, self._own, self._clock = ask, refuses, name, own, clock
        self._node_id = node_id
        self._nodes: list[RayNode] | None = None
        self._heard_s = clock()
        self._refused = self._wanted = False
        self._begun = self._answered = 0
        self._change = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._watch, name="ray-membership", daemon=True)

    def start(self) -> None:
        """Begins to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Asks no more; returns when no question is under way, or after a few seconds."""
        with self._change:
            self._stopped = True
            self._change.notify_all()
        self._thread.join(CALL_S + 2)

    @property
    def silent_s(self) -> float:
        """For how many seconds the head has not answered."""
        with self._change:
            return self._clock() - self._heard_s

    def nodes(self) -> list[RayNode]:
        """The nodes that are alive, or were when the head last answered; waits for its first answer.

        Raises:
            ClusterError: the head has not answered for so long that it is taken for lost, or the node of this process
                is not in the cluster any more.
        """
        with self._change:
            self._wanted = True
            self._change.notify_all()
            this = self._begun + 1
            while self._nodes is None and not self._is_lost():
                self._change.wait(ASK_EVERY_S)
            silent_s = self._clock() - self._heard_s
            if silent_s < CALL_S:
                self._change.wait_for(lambda: self._answered >= this, FRESH_S)
            if self._nodes is None or self._is_lost():
                how = "refuses connections" if self._refused else "does not answer"
                raise ClusterError(
                    f"{self._name}: the cluster's head is gone: it {how} for {silent_s:.0f} s",
                    hint="Nothing that was finished is lost. Start the head and its nodes again, then this command."
                    if not self._own
                    else "Nothing that was finished is lost. Start this command again.",
                )
            if all(node.node_id != self._node_id for node in self._nodes):
                raise ClusterError(
                    f"{self._name}: Ray's process on this machine (raylet) has ended, or did not answer for so long "
                    "that the cluster has given it up",
                    hint="Nothing that was finished is lost. "
                    + ("" if self._own else "See that this machine is a node of the cluster again, and then: ")
                    + "Start this command again; `dmesg` says if the kernel ended it for memory.",
                )
            return list(self._nodes)

    def _is_lost(self) -> bool:
        return self._clock() - self._heard_s > (REFUSED_S if self._refused else SILENT_S)

    def _watch(self) -> None:
        while True:
            with self._change:
                self._begun += 1
                self._wanted = False
            nodes: list[RayNode] | None = None
            refused = False
            try:
                nodes = self._ask()
            except Exception:  # whatever Ray raises, it is no answer
                refused = self._refuses()
            with self._change:
                if nodes is not None:
                    self._nodes, self._heard_s, self._answered = nodes, self._clock(), self._begun
                self._refused = refused
                self._change.notify_all()
                if nodes is None:
                    self._change.wait_for(lambda: self._stopped, ASK_EVERY_S)
                else:
                    self._change.wait_for(lambda: self._stopped or self._wanted, ASK_EVERY_S)
                if self._stopped:
                    return
