"""The nodes of the cluster and the agents on them: who is there, who answers, who is tried again and when.

Nothing here waits for ever: an agent that does not say what its node has, or falls silent, is given up after a while
and started anew later; one that dies again and again is left alone, and each job that goes well there halves the count.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.agents import AgentLostError, AgentUnavailableError
from results.figures import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.agents import AgentCluster
    from orchestrator.cluster import RayNode
    from profiles.types import NodeProfile

POLL_S = 1.0
"""How long an agent's poll waits for news."""
MEMBERSHIP_S = 1.0
"""How often Ray is asked which nodes are alive."""
HELLO_S = 90.0
"""How long an agent may take to start and to say what its node has."""
SILENT_S = 10.0
"""A poll that takes this much longer than it should: nothing new goes to the node until it answers."""
LOST_S = 60.0
"""A poll that takes this much longer than it should: the node counts as lost, and its jobs go elsewhere."""
RESTART_AFTER_S = (0.0, 2.0, 5.0, 15.0, 60.0)
"""How long after its first, second, ... death in a row the agent of a node is started again; then never."""


@dataclass(slots=True, eq=False)
class Member:
    """A node and its agent. `pending` is the call that is under way: its hello, then poll after poll."""

    node: RayNode
    agent: Any
    pending: Any
    asked_s: float
    profile: NodeProfile | None = None
    seen: int = 0
    silent: bool = False

    @property
    def node_id(self) -> str:
        """Ray's name for the node."""
        return self.node.node_id


@dataclass(slots=True)
class _Deaths:
    """How often in a row the agent of a node died, and when it may be started again."""

    count: int = 0
    due_s: float = 0.0


@dataclass(frozen=True, slots=True)
class News:
    """What came of a member's call: `reply`, or why it is `lost`; neither: it could not be asked."""

    member: Member
    reply: Any = None
    lost: str | None = None


@dataclass(slots=True)
class Members:
    """The members of one run. `say` takes sentences for a person, `refused` the reasons of nodes that take no part.

    `binaries` are the engine programs that the spec names, `needs` what its exams need of a node,
    `endpoints` the engines that ask servers which are not ours, each with the variable that holds its key.
    """

    cluster: AgentCluster
    run_id: str
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    binaries: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    endpoints: tuple[tuple[str, str | None], ...] = ()
    refused: dict[str, str] = field(default_factory=dict)
    _members: dict[str, Member] = field(default_factory=dict)
    _deaths: dict[str, _Deaths] = field(default_factory=dict)
    _due_s: float = 0.0

    def __iter__(self) -> Iterator[Member]:
        return iter(list(self._members.values()))

    def get(self, node_id: str) -> Member | None:
        """The member of that node, if it is one now."""
        return self._members.get(node_id)

    @property
    def was_asked(self) -> bool:
        """Whether Ray was asked at least once."""
        return self._due_s > 0

    @property
    def any_coming(self) -> bool:
        """Whether a node is about to join: its agent starts, or is to be started again."""
        return any(member.profile is None for member in self) or any(
            node_id not in self._members and deaths.count <= len(RESTART_AFTER_S)
            for node_id, deaths in self._deaths.items()
        )

    # --- who is there -----------------------------------------------------------------------------------------

    def look(self) -> list[News]:
        """Starts agents on nodes that came; the members whose nodes are dead.

        Raises:
            ClusterError: the cluster is gone.
        """
        now = self.clock()
        if now < self._due_s:
            return []
        self._due_s = now + MEMBERSHIP_S
        alive = {node.node_id: node for node in self.cluster.nodes()}
        for node_id in [node_id for node_id in self._deaths if node_id not in alive]:
            del self._deaths[node_id]  # Ray never gives a node's id again
        for node_id, node in alive.items():
            if node_id not in self._members and node_id not in self.refused and self._may_start(node_id, now):
                agent = self.cluster.start_agent(node, self.run_id)
                self._members[node_id] = Member(
                    node, agent, agent.hello.remote(self.binaries, self.needs, self.endpoints), now
                )
        return [News(member, lost="Ray says that the node is dead") for member in self if member.node_id not in alive]

    def _may_start(self, node_id: str, now: float) -> bool:
        deaths = self._deaths.get(node_id)
        return deaths is None or (deaths.count <= len(RESTART_AFTER_S) and now >= deaths.due_s)

    def overdue(self) -> list[News]:
        """The members that are lost because they answered nothing for so long."""
        now = self.clock()
        found = []
        for member in self:
            waited_s = now - member.asked_s
            if member.profile is None and waited_s > HELLO_S:
                found.append(News(member, lost=f"it did not say what it has within {HELLO_S:.0f} s"))
            elif member.profile is not None and waited_s > POLL_S + LOST_S:
                found.append(News(member, lost=f"it has not answered for {LOST_S:.0f} s"))
        return found

    def silent(self) -> list[Member]:
        """The members that have just fallen silent."""
        now = self.clock()
        found = [
            member
            for member in self
            if member.profile is not None and not member.silent and now - member.asked_s > POLL_S + SILENT_S
        ]
        for member in found:
            member.silent = True
        return found

    def forget(self, member: Member) -> None:
        """A member is lost: its agent is ended if it lives, and started again after a while."""
        if self._members.pop(member.node_id, None) is None:
            return
        self.cluster.stop_agent(member.agent)
        deaths = self._deaths.setdefault(member.node_id, _Deaths())
        deaths.count += 1
        lost = f"{member.node.hostname}: its agent was lost {count(deaths.count, 'time')} in a row"
        if deaths.count > len(RESTART_AFTER_S):
            self.say(f"{lost}; the node is left alone")
            return
        wait_s = RESTART_AFTER_S[deaths.count - 1]
        deaths.due_s = self.clock() + wait_s
        if wait_s:
            self.say(f"{lost}; it is tried again in {wait_s:.0f} s")

    def went_well(self, node_id: str) -> None:
        """A job went well on the node: its agent's earlier deaths count half."""
        if (deaths := self._deaths.get(node_id)) is not None:
            deaths.count //= 2
            if not deaths.count:
                del self._deaths[node_id]

    def refuse(self, member: Member, reason: str) -> None:
        """The node takes no part."""
        self.refused[member.node_id] = reason
        self._members.pop(member.node_id, None)
        self.say(f"{member.node.hostname} takes no part: {reason}")
        self.cluster.stop_agent(member.agent)

    # --- what they say ----------------------------------------------------------------------------------------

    def news(self, timeout_s: float) -> list[News]:
        """The answers that are here; waits up to `timeout_s` for the first. Each member is to be asked again."""
        waiting = {member.pending: member for member in self}
        if not waiting:
            time.sleep(timeout_s / 10)
            return []
        found = []
        for reference in self.cluster.answered(list(waiting), timeout_s):
            member = waiting[reference]
            try:
                found.append(News(member, reply=self.cluster.reply(reference)))
            except AgentUnavailableError:
                found.append(News(member))
            except AgentLostError as error:
                found.append(News(member, lost=str(error)))
        return found

    def ask(self, member: Member) -> None:
        """Polls a member again, for what it has to say after what was seen."""
        if member.node_id in self._members:
            member.pending, member.asked_s = member.agent.poll.remote(member.seen, POLL_S), self.clock()

    def dismiss(self, timeout_s: float) -> None:
        """Ends every agent, after at most `timeout_s` seconds in which they may end their engines."""
        farewells = []
        for member in self:
            with suppress(Exception):  # what is gone needs no farewell
                farewells.append(member.agent.shutdown.remote())
        deadline = self.clock() + timeout_s
        while farewells and (left_s := deadline - self.clock()) > 0:
            answered = self.cluster.answered(farewells, left_s)
            farewells = [reference for reference in farewells if reference not in answered]
        for member in self:
            self.cluster.stop_agent(member.agent)
