"""A real Ray cluster of several nodes on this host, and a model small enough for it."""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.heads import TOKEN, RealNode, real_head, real_node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RUNNERS = Path(__file__).parent.parent / "runners"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of half a megabyte: its answers are nonsense, enough to be scheduled, served and graded."""
    spec = importlib.util.spec_from_file_location("tiny_gguf", RUNNERS / "tiny_gguf.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path: Path = module.write_tiny_llama(tmp_path_factory.mktemp("model") / "tiny-F32.gguf")
    return path


class RealCluster:
    """Ray nodes on this host, each of processes of its own. The first node is the head."""

    def __init__(self, nodes: contextlib.ExitStack, environment: dict[str, str]) -> None:
        self._stack, self._environment = nodes, environment
        head = nodes.enter_context(real_head(takes_nodes=True, **environment))
        self.address = head.address
        self.nodes: list[RealNode] = [head]

    def add_node(self) -> RealNode:
        """Starts one more node."""
        node = self._stack.enter_context(real_node(self.address, **self._environment))
        self.nodes.append(node)
        return node


@pytest.fixture
def ray_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], RealCluster]]:
    """Starts a head and more nodes; ends exactly those processes afterwards."""
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    for name, value in (("period_ms", "500"), ("timeout_ms", "1000"), ("failure_threshold", "3")):
        environment[f"RAY_health_check_{name}"] = value
    # These nodes play machines of their own, and stand on one: each has the one CPU to itself.
    environment["QUANTSWEEP_LOCKS"] = "off"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with contextlib.ExitStack() as nodes:

        def start(count: int) -> RealCluster:
            cluster = RealCluster(nodes, environment)
            for _ in range(count - 1):
                cluster.add_node()
            return cluster

        yield start
