"""What a driver needs of agents: what one says first, how it can be lost, and the cluster that starts and asks them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.cluster.membership import RayNode
    from profiles.types import NodeProfile
    from runners.orders import RowReady


@dataclass(frozen=True, slots=True)
class Hello:
    """What an agent says first: its version, its machine, and the rows an earlier agent could not deliver.

    `no_sandbox` says why the node cannot grade, with the command that mends it; None where it can. `notes` are
    sentences about how its Ray was started, for who started it.
    """

    version: str
    pid: int
    profile: NodeProfile
    spooled: tuple[RowReady, ...]
    no_sandbox: str | None = None
    notes: tuple[str, ...] = ()


class AgentLostError(Exception):
    """An agent is gone, and all that ran on it; the text says why, as far as that is known."""


class AgentUnavailableError(Exception):
    """An agent may be alive or not: it could not be asked."""


class AgentCluster(Protocol):
    """What is needed of a cluster. Calls to agents return a reference; `reply` waits for none."""

    local: bool

    def nodes(self) -> list[RayNode]:
        """The nodes that are alive; `ClusterError` once the cluster itself is gone."""

    def start_agent(self, node: RayNode, run_id: str) -> Any:
        """An agent on exactly this node."""

    def stop_agent(self, agent: Any) -> None:
        """Ends an agent's process; its engines end with it."""

    def answered(self, references: Sequence[Any], timeout_s: float) -> list[Any]:
        """Those of the calls that have an answer; waits up to `timeout_s` seconds for the first."""

    def reply(self, reference: Any) -> Any:
        """What a call that was answered brought; `AgentLostError`, `AgentUnavailableError`."""
