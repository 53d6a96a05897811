"""What must hold when a sweep has ended, whatever was done to it; each violation is one sentence."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.outcomes import Outcome, OutcomeClass, outcome_class
from tests.chaos.host import CLUSTER_KINDS

if TYPE_CHECKING:
    from tests.chaos.cluster import Cluster
    from tests.chaos.host import Host
    from tests.chaos.sweep import Sweep
    from tests.chaos.truth import Known

GONE_WITHIN_S = 45.0
"""How long after a sweep its last process may live."""
RAY_SESSIONS = Path("/tmp/ray")
"""Where Ray makes session folders unless it is told where: ours never should."""


def check_rows(planned: list[str], rows: list[dict[str, Any]], known: dict[str, Known]) -> list[str]:
    """Each planned job is final once, each failure of the infrastructure has a name, each score is the job's own."""
    found = []
    finals = Counter(row["job_id"] for row in rows if row["final"])
    if missing := sorted(set(planned) - finals.keys()):
        found.append(f"{len(missing)} planned jobs have no final row: {missing[:3]}")
    if doubled := [job_id for job_id, times in finals.items() if times > 1]:
        found.append(f"{len(doubled)} jobs have several final rows: {doubled[:3]}")
    if strange := sorted(finals.keys() - set(planned)):
        found.append(f"{len(strange)} final rows belong to no planned job: {strange[:3]}")
    doubled_attempts = [
        key for key, times in Counter((row["job_id"], row["attempt"]) for row in rows).items() if times > 1
    ]
    if doubled_attempts:
        found.append(f"attempts are there twice: {doubled_attempts[:3]}")
    for row in rows:
        found += [f"job {row['job_id']} attempt {row['attempt']}: {what}" for what in check_row(row, known)]
    return found


def check_row(row: dict[str, Any], known: dict[str, Known]) -> list[str]:
    """What is wrong with one row."""
    found = []
    outcome = Outcome(row["outcome"])
    if row["outcome_class"] != outcome_class(outcome).value:
        found.append(f"{outcome} is said to be of class {row['outcome_class']}")
    if row["outcome_class"] == OutcomeClass.INFRASTRUCTURE.value:
        if not (row["error"] or "").strip():
            found.append(f"{outcome} without a sentence that says what failed")
        if row["score"] is not None:
            found.append(f"{outcome} with a score of {row['score']}")
        return found
    truth = known.get(row["job_id"])
    if truth is None:
        found.append("a job that nobody planned")
    elif differs := truth.differs(row):
        found.append(f"scored, and not what an undisturbed run gives: {differs}")
    return found


def check_words(sweep: Sweep) -> list[str]:
    """The command never ended with a traceback, nor in a way that nobody asked for."""
    found = []
    for number, start in enumerate(sweep.starts, 1):
        if "Traceback (most recent call last)" in start.text:
            found.append(f"start {number} printed a traceback: {start.log}")
        # Python's own start takes half a second, in which a signal ends it as it ends any program.
        allowed = {0, 1, 2} | {-number for number in start.sent}
        if not start.killed and start.code not in allowed:
            found.append(f"start {number} ended with code {start.code}: {start.log}")
    return found


def check_processes(host: Host) -> list[str]:
    """Nothing but the cluster's own processes is left."""
    left = host.left(CLUSTER_KINDS, GONE_WITHIN_S)
    return [f"a process is left: {process.kind} {process.pid}: {process.words[:150]}" for process in left]


def check_files(sweep: Sweep, cluster: Cluster, done: set[str]) -> list[str]:
    """No temporary file is left, on any node, beside the run, or where Ray would put one.

    But for the rows of jobs that are `done` which lie on a node that was not back when the sweep ended.
    """
    found = []
    for node in cluster.nodes:
        for what, folder in (("temporary", node.temporary_disk.folder), ("state", node.state_disk.folder)):
            found += [
                f"{node.name}: left in the {what} folder: {path.relative_to(folder)}"
                for path in _files(folder)
                if not (path.parent.parent.name == "spool" and _is_kept(path, done))
                and not (path.parent.name == "exam-checks" and path.stat().st_size == 0)  # what selfcheck.py remembers
            ]
        found += [f"{node.name}: left in /dev/shm: {name}" for name in cluster.shared_memory(node)]
        found += [f"{node.name}: a cgroup is left: {name}" for name in node.memory.left()]
    driver = Path(sweep.environment["TMPDIR"])
    found += [f"left in the driver's temporary folder: {path}" for path in driver.iterdir()]
    found += [f"left in the run folder: {path}" for path in _files(sweep.run_folder) if _is_temporary(path)]
    for start in sweep.starts:
        for path in RAY_SESSIONS.glob(f"session_*_{start.process.pid}"):
            found.append(f"a session folder of Ray is left: {path}")
    return found


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()] if folder.exists() else []


def _is_kept(path: Path, done: set[str]) -> bool:
    """Whether a file of a spool is there on purpose: damaged, or too late."""
    return path.suffix == ".damaged" or (path.suffix == ".json" and path.stem.rpartition("-")[0] in done)


def _is_temporary(path: Path) -> bool:
    return ".tmp" in path.name or path.name.startswith(".")
