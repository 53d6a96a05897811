"""An agent without Ray's cluster: what it tells when it cannot do what it was asked."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.runners.test_cell import order_for
from tests.runners.tiny_gguf import write_tiny_llama

if TYPE_CHECKING:
    from pathlib import Path

# In a process of its own: whoever imports Ray fixes its authentication for all that follows.
PLAY = """
import dataclasses, json, pickle, sys, threading
from orchestrator.agent import NodeAgent
from profiles.types import Device, NodeProfile

agent = NodeAgent("run")
if sys.argv[2] == "no thread":
    cpu = Device(id="cpu", vendor="cpu", name="A CPU", kind="cpu")
    agent._profile = NodeProfile(hostname="box", os="", arch="", probed_at="", devices=(cpu,))
    def refuse(_):
        raise RuntimeError("can't start new thread")
    threading.Thread.start = refuse
agent.start(pickle.load(open(sys.argv[1], "rb")))
((_, event),) = agent.poll(0, 0.0)
print(json.dumps([type(event).__name__, dataclasses.asdict(event), list(agent._runs)]))
"""


@pytest.mark.parametrize("hurdle", ["no thread", "no hello"])
def test_a_lease_that_cannot_be_begun_has_ended(tmp_path: Path, hurdle: str) -> None:
    """The call raised on the node, where nobody was waiting for it, and the driver waited for ever."""
    order = order_for(write_tiny_llama(tmp_path / "m-F32.gguf"))
    (tmp_path / "order").write_bytes(pickle.dumps(order))
    argv = [sys.executable, "-c", PLAY, str(tmp_path / "order"), hurdle]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kind, ended, runs = json.loads(done.stdout.splitlines()[-1])
    assert kind == "CellEnded"
    assert (ended["lease_id"], ended["how"], ended["outcome"]) == ("L1", "failed", "server_start")
    assert ended["reason"].startswith("the lease could not be begun: RuntimeError: ")
    assert runs == []
