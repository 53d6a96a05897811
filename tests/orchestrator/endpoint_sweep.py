"""A whole sweep of a file cell beside an endpoint cell, on two nodes in this process: `python -m ... FOLDER`.

Driver, agents, leases, engines, grading and the store are the real ones, and so is the server, which is somebody
else's: the engine of `tests.runners.somebody` knows its URL and a key. A process of its own, as agents import Ray.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import profiles.probe
import quants.standin
from orchestrator.driver import Driver
from orchestrator.expand import expand
from orchestrator.journal import Journal
from orchestrator.plan import Plan
from orchestrator.progress import Tally, _View
from orchestrator.rundir import RunDir
from orchestrator.spec import parse_spec
from orchestrator.sweep import restore_state
from orchestrator.terminal import Printer
from profiles.types import FoundEngine
from results.store import RunStore, read_run
from runners.engines import get_engine
from runners.engines.settings import EmbeddedSettings
from tests.orchestrator.inprocess import Agent, Behaviour, Call, InProcessCluster
from tests.runners import somebody

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.cluster import RayNode
    from profiles.types import NodeProfile
    from runners.engines.base import Served

KEY = "the-key-of-somebody-key"
EMPTY_POLL_S = 1.0
SPEC = """
name = "both"
seeds = "1-4"
exams = ["todo"]
[sampling]
max_tokens = 40
[[models]]
name = "here"
source = "builtin:stand-in"
quants = ["TQ1_0"]
engine = { context = 1024, threads = 1 }
[[models]]
name = "elsewhere"
source = "large"
engine = { kind = "somebody" }
"""


class RealAgent(Agent):
    """A node's own agent, without Ray between it and the driver."""

    def __init__(self, cluster: InProcessCluster, node: RayNode) -> None:
        from orchestrator.agent import NodeAgent

        super().__init__(cluster, node, Behaviour())
        self.real: Any = NodeAgent("r")  # Ray types its methods as if they were always remote
        self.seen, self.polled_s = 0, 0.0

    def do_hello(self, binaries: tuple[str, ...] = (), needs: tuple[str, ...] = (), endpoints: Any = ()) -> Call:
        said = self.real.hello(binaries, needs)
        self.real._profile = profile = replace(said.profile, hostname=self.node.hostname)
        return Call(answer=replace(said, profile=profile))

    def do_poll(self, seen: int, _wait_s: float) -> Call:
        self.seen, self.polled_s = seen, time.monotonic()
        return super().do_poll(seen, _wait_s)

    def settle(self) -> None:
        if self.pending is None or self.pending.is_here:
            return
        news = self.real.poll(self.seen, 0.0)
        if news or time.monotonic() - self.polled_s > EMPTY_POLL_S:
            self.pending.answer = news

    def do_start(self, order: Any) -> None:
        self.real.start(order)

    def do_assign(self, lease_id: str, job: Any) -> None:
        self.real.assign(lease_id, job)

    def do_close(self, lease_id: str) -> None:
        self.real.close(lease_id)

    def do_cancel(self, lease_id: str) -> None:
        self.real.cancel(lease_id)

    def do_committed(self, job_id: str, attempt: int) -> None:
        self.real.committed(job_id, attempt)

    def do_shutdown(self) -> Call:
        self.real.shutdown()
        return Call(answer=True)


class Cluster(InProcessCluster):
    """Waits for answers, as time is real here."""

    def answered(self, references: Sequence[Any], timeout_s: float) -> list[Any]:
        until = time.monotonic() + timeout_s
        while not (found := super().answered(references, timeout_s)) and time.monotonic() < until:
            time.sleep(0.01)
        return found


def prepare(folder: Path) -> Served:
    """Starts somebody's server, and lets this process, which ends with it, know of the engine that asks it."""
    patch = pytest.MonkeyPatch()
    patch.setattr("runners.engines.embedded.new_key", lambda: KEY)
    settings = EmbeddedSettings(context=1024, threads=1, slots=2)
    model = Path(str(files(quants.standin))) / "standin-TQ1_0.gguf"
    served = get_engine("embedded").load(model, settings, log_path=folder / "theirs.log", device="CPU")
    somebody.register(patch, url=served.base_url or "", key=KEY)
    probe = profiles.probe.probe_node

    def probe_node(**more: Any) -> NodeProfile:
        found = probe(**more)
        return replace(found, engines=(*found.engines, FoundEngine(somebody.KIND)))

    patch.setattr(profiles.probe, "probe_node", probe_node)
    return served


def sweep(root: Path) -> dict[str, Any]:
    """Runs it, and says what came of it."""
    planned = expand(parse_spec(SPEC, "both.toml"), file="both.toml", text=SPEC, base_dir=root)
    plan = Plan.from_json(planned.to_json())
    folder = RunDir(root / "run")
    folder.root.mkdir()
    cluster = Cluster({"n1": "one", "n2": "two"}, make=RealAgent)
    with RunStore(folder.root) as store, Journal(folder.journal) as journal:
        state = restore_state(plan, store, folder)
        driver = Driver(
            plan,
            run_id="r",
            folder=folder,
            store=store,
            journal=journal,
            state=state,
            cluster=cluster,
            progress=_View(Tally(len(plan.jobs), 0), Printer(None)),
        )
        report = driver.run()
    rows = read_run(folder.root).table.to_pylist()
    return {
        "complete": state.complete,
        "trouble": str(report.trouble),
        "unplaced": report.unplaced,
        "rows": rows,
        "asked": somebody.COUNTED.all,
        "at_once": somebody.COUNTED.most,
        "key_in_files": sorted(
            str(path.relative_to(root))
            for path in root.rglob("*")
            if path.is_file() and KEY.encode() in path.read_bytes()
        ),
    }


def main() -> None:
    root = Path(sys.argv[1])
    theirs = prepare(root)
    try:
        said = sweep(root)
    finally:
        theirs.stop()
    print(json.dumps(said, default=str))


if __name__ == "__main__":
    main()
