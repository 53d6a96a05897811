"""A run whose plan.json is gone or damaged: the plan that its spec makes today takes its place where it is the same.

Job ids are made of content (files, settings, prompts, seeds). So a plan of the same spec, with as many jobs, that knows
the job of every row is the plan that was followed. Where there is no row yet, there is nothing to contradict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.errors import RunFolderError
from results.figures import count
from results.store import read_run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.plan import Plan
    from orchestrator.rundir import RunDir


def put_back(plan: Plan, folder: RunDir, identity: Mapping[str, Any]) -> None:
    """Writes `plan`, made today from the spec of the run, as the plan of `folder`.

    Raises:
        RunFolderError: it is not the one that was followed, or cannot be written.
    """
    differs = []
    jobs = {job.job_id for job in plan.jobs}
    if (planned := identity.get("jobs")) is not None and planned != len(jobs):
        differs.append(f"the run had {count(planned, 'job')}, the spec makes {len(jobs)} today")
    rows = read_run(folder.root, ["job_id", "taken_out"]).table.to_pylist()
    strange = {row["job_id"] for row in rows if not row["taken_out"]} - jobs
    if strange:
        differs.append(f"there are rows of {count(len(strange), 'job')} that it does not have (other files by now?)")
    if differs:
        raise RunFolderError(
            f"{folder.plan}: the plan of this run is lost, and its spec makes another one today:",
            details=differs,
            hint="Put plan.json back from a copy, or start a new run: --out DIR, and --reuse to take what is the same "
            f"from {folder.root}. `quantsweep show` still reads this one's results.",
        )
    folder.put_back(plan.to_json())
