"""What `quantsweep show` and the end of a run print: the report of a run folder, beside what its spec asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import RunFolderError, SpecError
from orchestrator.kept_plan import read_old_spec
from orchestrator.rundir import RunDir
from results.tables import report
from runners.row import DEFAULT_VARIANT

if TYPE_CHECKING:
    from pathlib import Path

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
    return report(root, planned=folder.jobs_planned() if planned is None else planned, order=_order(folder))


def _order(folder: RunDir) -> list[tuple[str, str]]:
    """Models with their variants as the spec names them; empty where it cannot be read, as one of another version."""
    try:
        spec = read_old_spec(folder)
    except (SpecError, RunFolderError):
        return []
    return [
        (model.name, variant)
        for model in spec.models
        for variant in [each.name for each in model.variants] or [DEFAULT_VARIANT]
    ]
