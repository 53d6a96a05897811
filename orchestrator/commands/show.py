"""What `quantsweep show` and the end of a run print: the report of a run folder, beside what its spec asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import RunFolderError, SpecError
from orchestrator.kept_plan import read_old_spec, read_plan
from orchestrator.rundir import RunDir
from orchestrator.seeding import seeding_of_rows
from results.reading import read_run
from results.tables import report
from runners.row import DEFAULT_VARIANT

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.seeding import Seeding
    from orchestrator.spec import SweepSpec
    from results.tables import Report


def report_of_run(root: Path, *, planned: int | None = None) -> Report:
    """The report of the run in `root`, finished or running, its tables in the order of the spec.

    `planned` is how many jobs it has, where that is not what its plan says.

    Raises:
        RunFolderError: this is no run folder.
        StoreError: a newer quantsweep wrote it.
    """
    folder = RunDir(root)
    folder.require()
    try:
        spec = read_old_spec(folder)
    except (SpecError, RunFolderError):  # of another version, perhaps: what can be shown without it is
        spec = None
    seeding = _seeding(folder) if spec is not None and spec.seeding is not None else None
    if planned is None:
        planned = folder.jobs_planned() if seeding is None else seeding[1]
    by_score = None if seeding is None else (seeding[0].notes(), seeding[0].rule)
    return report(root, planned=planned, order=_order(spec) if spec is not None else [], by_score=by_score)


def _seeding(folder: RunDir) -> tuple[Seeding, int] | None:
    """What the rows of a run ask for, where its seeds depend on their scores; None where its plan cannot be read."""
    try:
        plan = read_plan(folder)
    except RunFolderError:
        return None
    return seeding_of_rows(plan, read_run(folder.root, ["job_id", "final", "score", "score_max"]).table.to_pylist())


def _order(spec: SweepSpec) -> list[tuple[str, str]]:
    """Models with their variants as the spec names them."""
    return [
        (model.name, variant)
        for model in spec.models
        for variant in [each.name for each in model.variants] or [DEFAULT_VARIANT]
    ]
