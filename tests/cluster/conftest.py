"""A real Ray cluster of several nodes on this host, and a model small enough for it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

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


@pytest.fixture
def ray_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Any]]:
    """Starts a head and more nodes; ends exactly those processes afterwards."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)
    for name, value in (("period_ms", "500"), ("timeout_ms", "1000"), ("failure_threshold", "3")):
        monkeypatch.setenv(f"RAY_health_check_{name}", value)
    # These nodes play machines of their own, and stand on one: each has the one CPU to itself.
    monkeypatch.setenv("QUANTSWEEP_LOCKS", "off")
    os.environ.pop("RAY_ADDRESS", None)
    from ray.cluster_utils import Cluster

    clusters: list[Any] = []
    folder = tempfile.mkdtemp(prefix="qst-")  # Ray's default is everybody's, and is never emptied

    def start(nodes: int) -> Any:
        settings = {"num_cpus": 1, "include_dashboard": False, "temp_dir": f"{folder}/r"}
        cluster = Cluster(initialize_head=True, head_node_args=settings)
        clusters.append(cluster)
        for _ in range(nodes - 1):
            cluster.add_node(num_cpus=1)
        return cluster

    yield start
    for cluster in clusters:
        cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
