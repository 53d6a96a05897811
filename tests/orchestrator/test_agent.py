"""An agent without Ray: what it tells when it cannot do what it was asked."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.agent import NodeAgent
from profiles.types import Device, NodeProfile
from runners.orders import CellEnded
from tests.runners.test_cell import order_for
from tests.runners.tiny_gguf import write_tiny_llama

if TYPE_CHECKING:
    from pathlib import Path

PROFILE = NodeProfile(
    hostname="box",
    os="Linux",
    arch="x86_64",
    probed_at="2026-01-01T00:00:00Z",
    devices=(Device(id="cpu", vendor="cpu", name="A CPU", kind="cpu"),),
)


@pytest.mark.parametrize("hurdle", ["no thread", "no hello"])
def test_a_lease_that_cannot_be_begun_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hurdle: str) -> None:
    """The call raised on the node, where nobody was waiting for it, and the driver waited for ever."""
    order = order_for(write_tiny_llama(tmp_path / "m-F32.gguf"))
    agent: Any = NodeAgent("run")  # Ray types its methods as remote ones
    if hurdle == "no thread":
        agent._profile = PROFILE

        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
    agent.start(order)
    monkeypatch.undo()
    ((_, ended),) = agent.poll(0, 0.0)
    assert isinstance(ended, CellEnded)
    assert (ended.lease_id, ended.how, ended.outcome) == ("L1", "failed", "server_start")
    assert ended.reason.startswith("the lease could not be begun: RuntimeError: ")
    assert not agent._runs
