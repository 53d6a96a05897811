"""A sweep of one cell x N jobs against a bare loop: same server, same requests, same grading, one after another.

Prints the ratio of wall times, sweep over loop, from when Ray is up; at most 1.05 is the aim, below 1 with overlapping.
The two are run in turn, so that a machine whose speed drifts does not favour one. Usage:

    python -m tests.bench.bench_sweep [--jobs 30] [--rounds 3] [--quant Q4_K_M]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cluster import Cluster, connect
from orchestrator.driver import Driver
from orchestrator.expand import expand
from orchestrator.journal import Journal
from orchestrator.progress import PlainProgress, Tally
from orchestrator.rundir import RunDir
from orchestrator.spec import parse_spec
from orchestrator.sweep import restore_state
from orchestrator.terminal import Printer
from quants.cache import fetch
from results.store import RunStore
from runners.chat import ChatRequest
from runners.engines import get_engine
from runners.exams import get_exam
from runners.exams.base import Reply
from runners.sandbox import open_sandbox
from tests.runners.exams.graded import grade as grade_reply

if TYPE_CHECKING:
    from orchestrator.plan import Plan

SPEC = """\
name = "bench"
seeds = "1-{jobs}"
exams = ["todo"]
overlap_grading = "{overlap}"
[sampling]
max_tokens = 1024
[engine]
context = 2048
threads = 1
[[models]]
name = "stand-in"
source = "builtin:stand-in"
quants = ["{quant}"]
"""


def make_plan(jobs: int, quant: str, overlap: str) -> Plan:
    text = SPEC.format(jobs=jobs, quant=quant, overlap=overlap)
    return expand(parse_spec(text, "bench"), file="bench", text=text, base_dir=Path())


def bare_loop(plan: Plan, folder: Path) -> float:
    """Seconds for what somebody would write by hand: load once, then ask and grade, one after another."""
    began = time.monotonic()
    cell = plan.cells[0]
    exam = get_exam("todo")
    sandbox = open_sandbox()
    served = get_engine(cell.engine.kind).load(
        fetch(cell.artifact), cell.engine, log_path=folder / "loop.log", device="CPU"
    )
    messages = exam.tasks()[0].messages
    try:
        for job in plan.jobs:
            result = served.chat(ChatRequest(messages=messages, sampling=cell.sampling, seed=job.seed))
            with tempfile.TemporaryDirectory() as work:
                grade_reply(exam, Reply(text=result.text, finish_reason=result.finish_reason), sandbox, Path(work))
    finally:
        served.stop()
    return time.monotonic() - began


def sweep(plan: Plan, folder: Path, cluster: Cluster) -> tuple[float, float]:
    """Seconds from when Ray is up until the driver is done, and from the node's joining, when its agent is up too."""
    run = RunDir(folder)
    run.create()
    run_id = run.begin(spec_text="", spec_digest="", plan_json=plan.to_json(), version="bench")
    store = RunStore(folder)
    joined: list[float] = []

    class Watch(PlainProgress):
        def node_joined(self, node_id: str, profile: object) -> None:
            joined.append(time.monotonic())

    state = restore_state(plan, store, run)
    began = time.monotonic()
    with Journal(run.journal) as journal:
        driver = Driver(
            plan,
            run_id=run_id,
            folder=run,
            store=store,
            journal=journal,
            state=state,
            cluster=cluster,
            progress=Watch(Tally(len(plan.jobs), 0), Printer(None)),
        )
        driver.run()
    ended = time.monotonic()
    if not state.complete:
        raise SystemExit("the sweep did not end with every job done")
    return ended - began, ended - joined[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quant", default="Q4_K_M")
    options = parser.parse_args()
    ratios: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as root, connect(None) as cluster:
        for number in range(options.rounds):
            for overlap in ("never", "always"):
                plan = make_plan(options.jobs, options.quant, overlap)
                loop_s = bare_loop(plan, Path(root))
                whole_s, served_s = sweep(plan, Path(root) / f"{overlap}{number}", cluster)
                print(
                    f"round {number + 1}, overlap {overlap:6}: loop {loop_s:6.2f} s, sweep {whole_s:6.2f} s "
                    f"({whole_s / loop_s:.3f}), without the agent's start {served_s:6.2f} s ({served_s / loop_s:.3f})"
                )
                ratios.setdefault(f"{overlap}, from Ray up", []).append(whole_s / loop_s)
                ratios.setdefault(f"{overlap}, from node joined", []).append(served_s / loop_s)
    for name, values in ratios.items():
        print(f"ratio sweep/loop, overlap {name}: median {statistics.median(values):.3f} of {options.rounds}")


if __name__ == "__main__":
    main()
