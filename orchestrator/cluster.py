"""Ray, as far as a sweep needs it: join or start a cluster, list its nodes, put one agent on each.

A local cluster listens on loopback with a token of its own. A cluster elsewhere is refused when its authentication
is switched off: an open Ray port runs anybody's code (CVE-2023-48022).
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.errors import ClusterError
from orchestrator.members import AgentLostError, AgentUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestrator.agent import AgentHandle
    from profiles.types import NodeProfile

OBJECT_STORE_BYTES = 80 * 2**20
"""Ray's minimum, nearly: rows travel in replies, model files never travel."""
NAMESPACE = "quantsweep"
PROBE_S = 60.0
"""How long a node may take to say what it has: starting a worker and asking its engines."""


@dataclass(frozen=True, slots=True)
class RayNode:
    """A node that Ray says is alive."""

    node_id: str
    hostname: str
    address: str


def _is_loopback(host: str) -> bool:
    try:
        return all(ipaddress.ip_address(info[4][0]).is_loopback for info in socket.getaddrinfo(host, None))
    except (OSError, ValueError):
        return False


def check_address(address: str | None) -> None:
    """Refuses, before anything is done, an address that no sweep should use; `ClusterError` says why."""
    if address is None:
        return
    if address.startswith("ray://"):
        raise ClusterError(
            f"{address}: Ray Client addresses are not supported",
            hint="Run on a machine that is a node of the cluster and give its GCS address, HOST:6379, or 'auto'.",
        )
    host = address.rsplit(":", 1)[0]
    if host not in {"auto", "local"} and not _is_loopback(host) and os.environ.get("RAY_AUTH_MODE") == "disabled":
        raise ClusterError(
            f"{address}: refused: this cluster is beyond this machine and its authentication is switched off",
            hint="Unset RAY_AUTH_MODE, start every node with the same token, and give it here (RAY_AUTH_TOKEN_PATH).",
        )


def _prepare_environment(address: str | None) -> None:
    """Must run before `import ray`: Ray reads its settings then."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Without this Ray hides the GPUs from an actor that asks it for none; placement is ours.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address is None:
        # Ray's default is 15: engines and graders would give way to everything else on the machine.
        os.environ.setdefault("RAY_worker_niceness", "0")
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        if not any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
            # A token in the environment keeps Ray from writing one that others can read into the home folder.
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        for name, value in (("period_ms", 500), ("timeout_ms", 2000), ("failure_threshold", 4)):
            os.environ.setdefault(f"RAY_health_check_{name}", str(value))


class Cluster:
    """A connection to Ray. Use `connect`."""

    def __init__(self, ray: Any, *, local: bool) -> None:
        self._ray = ray
        self.local = local

    def nodes(self) -> list[RayNode]:
        """The nodes that are alive, by id."""
        return [
            RayNode(node["NodeID"], node["NodeManagerHostname"], node["NodeManagerAddress"])
            for node in self._ray.nodes()
            if node["Alive"]
        ]

    def start_agent(self, node: RayNode, run_id: str) -> AgentHandle:
        """An agent on exactly this node; if the node dies first, its first call raises."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from orchestrator.agent import agent_class

        pinned = NodeAffinitySchedulingStrategy(node_id=node.node_id, soft=False)
        return agent_class().options(scheduling_strategy=pinned).remote(run_id)

    def answered(self, references: Sequence[Any], timeout_s: float) -> list[Any]:
        """Those of the calls to agents that have an answer; waits up to `timeout_s` seconds for the first."""
        if not self._ray.wait(list(references), num_returns=1, timeout=timeout_s)[0]:
            return []
        answered: list[Any] = self._ray.wait(list(references), num_returns=len(references), timeout=0)[0]
        return answered

    def reply(self, reference: Any) -> Any:
        """What a call that was answered brought.

        Raises:
            AgentUnavailableError: the agent may be alive or not.
            AgentLostError: it is gone.
        """
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.ActorUnavailableError as error:
            raise AgentUnavailableError(reason_of(error)) from None
        except self._ray.exceptions.RayError as error:
            raise AgentLostError(reason_of(error)) from None

    def stop_agent(self, agent: AgentHandle) -> None:
        """Ends an agent's process; its engines end with it."""
        with contextlib.suppress(Exception):  # it is gone already, or its node is
            self._ray.kill(agent)


def probe_cluster(address: str) -> tuple[list[NodeProfile], dict[str, str]]:
    """The profile of every node of the cluster at `address`, and for those that gave none, by host name, why.

    Raises:
        ClusterError: the cluster cannot be reached or must not be used.
    """
    with connect(address) as cluster:
        import ray

        nodes = cluster.nodes()
        agents = [cluster.start_agent(node, "probe") for node in nodes]
        asked = {agent.hello.remote(): node for agent, node in zip(agents, nodes, strict=True)}
        answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_S)
        profiles, failures = [], {asked[ref].hostname: f"no answer within {PROBE_S:.0f} s" for ref in silent}
        for ref in answered:
            try:
                profiles.append(ray.get(ref).profile)
            except ray.exceptions.RayError as error:
                failures[asked[ref].hostname] = reason_of(error)
        for agent in agents:
            cluster.stop_agent(agent)
        return profiles, failures


def reason_of(error: Exception) -> str:
    """The line of one of Ray's messages that says something to a person."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Error" in line or "exit" in line.lower()]
    return (telling[-1] if telling else lines[0] if lines else type(error).__name__)[:300]


@contextlib.contextmanager
def connect(address: str | None) -> Iterator[Cluster]:
    """A cluster of this machine alone (`None`), or the one at `address` (`auto` finds one that runs here).

    Raises:
        ClusterError: it is not reachable, refuses us, or is not safe to use.
    """
    check_address(address)
    _prepare_environment(address)
    import logging

    import ray

    options: dict[str, Any] = {
        "namespace": NAMESPACE,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "configure_logging": True,
    }
    if address is None:
        # RAY_ADDRESS would make Ray join a cluster nobody asked for.
        os.environ.pop("RAY_ADDRESS", None)
        options |= {
            "address": "local",
            "include_dashboard": False,
            "num_gpus": 0,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
        }
    else:
        options["address"] = address
    try:
        ray.init(**options)
    except Exception as error:  # Ray raises many kinds, and none of them is ours to let through
        text = str(error).strip().splitlines()
        what = "a local Ray cluster could not be started" if address is None else f"no Ray cluster answers at {address}"
        raise ClusterError(
            f"{what}: {text[0] if text else type(error).__name__}",
            hint="Leave --address out to run on this machine alone."
            if address
            else "Is /tmp writable, and is there room on it?",
        ) from None
    try:
        yield Cluster(ray, local=address is None)
    finally:
        ray.shutdown()
