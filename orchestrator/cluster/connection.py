"""Joins or starts a Ray cluster, says which nodes it has, and puts agents on them; leaves it whatever has happened.

A cluster of this machine alone listens on loopback only, with a token and a folder of its own. A cluster elsewhere is
used only when it asks for a token (`inquiry.py`).
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

from orchestrator.agents import AgentLostError, AgentUnavailableError
from orchestrator.cluster.address import Head, find_head, knock
from orchestrator.cluster.closing import within
from orchestrator.cluster.environment import prepare_for_own_cluster, prepare_to_join
from orchestrator.cluster.inquiry import examine
from orchestrator.cluster.limits import check_limits
from orchestrator.cluster.membership import CALL_S, Membership, RayNode
from orchestrator.cluster.session import session_folder
from orchestrator.errors import ClusterError
from orchestrator.terminal.mute import muted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from orchestrator.agent import AgentHandle

OBJECT_STORE_BYTES = 80 * 2**20
"""Ray's minimum, nearly: rows travel in replies, model files never travel."""
NAMESPACE = "quantsweep"
JOIN_S = 60.0
"""How long Ray may take to join a cluster whose head has just answered; it takes 1 s."""
CLOSE_S = 15.0
"""How long Ray may take to let go: 5 s when the head was killed, for ever when it is stopped."""


class Cluster:
    """A connection to Ray. Use `connect`."""

    def __init__(self, ray: Any, membership: Membership, *, local: bool) -> None:
        self._ray, self._membership = ray, membership
        self.local = local

    def nodes(self) -> list[RayNode]:
        """The nodes that are alive. Returns at once, with what the head last said.

        Raises:
            ClusterError: the head is gone, and with it the cluster: end every lease and stop.
        """
        return self._membership.nodes()

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


def reason_of(error: Exception) -> str:
    """The line of one of Ray's messages that says something to a person."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Error" in line or "exit" in line.lower()]
    return (telling[-1] if telling else lines[0] if lines else type(error).__name__)[:300]


def check_address(address: str | None) -> None:
    """Refuses, before anything is done, an address where no cluster answers; at most some seconds.

    Raises:
        ClusterError: with a sentence that says what is there instead.
    """
    if address is not None:
        knock(find_head(address))


@contextlib.contextmanager
def connect(address: str | None) -> Iterator[Cluster]:
    """A cluster of this machine alone (`None`), or the one at `address` (`auto` finds the user's own).

    Raises:
        ClusterError: it does not answer, refuses us, or is not safe to use.
    """
    if address is None:
        check_limits(OBJECT_STORE_BYTES)
    with contextlib.ExitStack() as stack:
        ray = _start(stack.enter_context(session_folder())) if address is None else _join(find_head(address))
        stack.callback(_close, ray, local=address is None)
        membership = _membership(ray, address)
        membership.start()
        stack.callback(membership.stop)
        yield Cluster(ray, membership, local=address is None)


def _start(folder: Path) -> Any:
    prepare_for_own_cluster(folder)
    ray = _ray()

    options = _options() | {
        "address": "local",
        "include_dashboard": False,
        "num_gpus": 0,
        "object_store_memory": OBJECT_STORE_BYTES,
        "_node_ip_address": "127.0.0.1",
        "_temp_dir": str(folder),
    }
    try:
        with muted(), _signals_stay_ours():
            ray.init(**options)
    except BaseException as error:  # Ray raises many kinds, and none of them is ours to let through
        _close(ray, local=True)
        if not isinstance(error, Exception):
            raise
        raise ClusterError(
            f"a local Ray cluster could not be started: {_first_line(error)}",
            hint=f"Is there room on {folder.parent.parent}, and memory to start some processes?",
        ) from None
    _silence(ray)
    return ray


@contextlib.contextmanager
def _signals_stay_ours() -> Iterator[None]:
    """Ray, when it is started, takes SIGTERM for itself and ends the process with `sys.exit(15)`, without a word."""
    if threading.current_thread() is not threading.main_thread():
        yield  # neither Ray nor we can change anything there
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _join(head: Head) -> Any:
    cluster_id = examine(head)
    prepare_to_join(loopback=head.on_loopback)
    ray = _ray()

    with muted():
        error = within(JOIN_S, lambda: ray.init(address=head.address, **_options()), "joining the cluster")
    if isinstance(error, Exception):
        if not isinstance(error, TimeoutError):
            _close(ray, local=False)
        raise ClusterError(
            f"{head}: the cluster could not be joined: {_first_line(error)}",
            hint="Are the head and the node of this machine well?",
        ) from None
    if error is not None:
        raise error
    node: Any = ray._private.worker._global_node  # noqa: SLF001 - nothing public names the cluster
    if node.cluster_id.hex() != cluster_id:
        _close(ray, local=False)
        raise ClusterError(f"{head}: another cluster took its place while it was being joined", hint="Try again.")
    _silence(ray)
    return ray


def _ray() -> Any:
    """Ray, with the environment as it is now: it reads it once, and an earlier connection had another token."""
    import ray
    from ray import _raylet

    raylet: Any = _raylet  # its C++ classes have no types
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()
    return ray


def _options() -> dict[str, Any]:
    return {
        "namespace": NAMESPACE,
        "log_to_driver": False,
        "logging_level": logging.CRITICAL,
        "configure_logging": True,
    }


def _silence(ray: Any) -> None:
    """Ray prints its cluster's errors, log excerpts of fifty lines; what matters of them reaches us as exceptions."""
    ray._private.worker._worker_logs_enabled = False  # noqa: SLF001 - there is no public switch


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _membership(ray: Any, address: str | None) -> Membership:
    worker = ray._private.worker.global_worker  # noqa: SLF001 - `ray.nodes` has no time limit, its client has
    client = worker.gcs_client
    host, _, port = str(client.address).rpartition(":")

    def ask() -> list[RayNode]:
        known = client.get_all_node_info(timeout=CALL_S)
        return [
            RayNode(node_id.hex(), node.node_manager_hostname, node.node_manager_address)
            for node_id, node in sorted(known.items(), key=lambda item: item[0].hex())
            if node.state == 0
        ]

    def refuses() -> bool:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return False

    name = "this machine" if address is None else address
    return Membership(ask, refuses, name=name, own=address is None, node_id=worker.node.node_id)


def _close(ray: Any, *, local: bool) -> None:
    """Lets go of the cluster, and ends its processes if we started it; bounded."""
    error = within(CLOSE_S, ray.shutdown, "leaving Ray")
    node: Any = ray._private.worker._global_node  # noqa: SLF001 - what `ray.shutdown` would come to next
    if local and isinstance(error, TimeoutError) and node is not None:
        within(CLOSE_S, lambda: node.kill_all_processes(check_alive=False, allow_graceful=False), "ending Ray")
