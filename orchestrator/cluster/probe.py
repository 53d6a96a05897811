"""The profiles of all nodes of a cluster, for commands that only look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.cluster.connection import connect, reason_of

if TYPE_CHECKING:
    from orchestrator.agents import Hello
    from profiles.types import NodeProfile

PROBE_S = 60.0
"""How long a node may take to say what it has: starting a worker and asking its engines."""
FAREWELL_S = 2.0
"""How long the agents may take to clear away what they made."""


def probe_cluster(
    address: str,
    needs: tuple[str, ...] = (),
    binaries: tuple[str, ...] = (),
    endpoints: tuple[tuple[str, str | None], ...] = (),
) -> tuple[list[NodeProfile], list[str]]:
    """The profile of every node of the cluster at `address`, and what there is to say about them.

    `binaries` are engine programs that nodes are asked for beside their own, `needs` what exams may need, `endpoints`
    engines with the variables that hold their keys. What there is to say is, by host name, why a node did not say what
    it has, and how its Ray should be started instead.

    Raises:
        ClusterError: the cluster cannot be reached or must not be used.
    """
    with connect(address) as cluster:
        import ray

        nodes = cluster.nodes()
        agents = [cluster.start_agent(node, "probe") for node in nodes]
        asked = {
            agent.hello.remote(binaries, needs, endpoints): node for agent, node in zip(agents, nodes, strict=True)
        }
        answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_S)
        without = "did not say what it has"
        profiles, remarks = [], [f"{asked[ref].hostname} {without}: no answer within {PROBE_S:.0f} s" for ref in silent]
        for ref in answered:
            try:
                hello: Hello = ray.get(ref)
            except ray.exceptions.RayError as error:
                remarks.append(f"{asked[ref].hostname} {without}: {reason_of(error)}")
            else:
                profiles.append(hello.profile)
                remarks += [f"warning: {hello.profile.hostname}: {note}" for note in hello.notes]
        farewells = [agent.shutdown.remote() for agent in agents]
        ray.wait(farewells, num_returns=len(farewells), timeout=FAREWELL_S)
        for agent in agents:
            cluster.stop_agent(agent)
        return profiles, remarks
