"""`run --reuse`: rows of equal jobs are taken from other runs, each with the run that it came from, and not run again.

Equal jobs have the same id, whatever sweep they are of: the same files, settings, prompt and seed. What another run
calls them, and which of the exam's scorings it shows, is put right here; everything else is that run's.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from orchestrator.errors import RunFolderError
from orchestrator.journal import read_journal
from orchestrator.kept_plan import read_plan
from orchestrator.nearest import what_differs
from orchestrator.restore import INFRASTRUCTURE, numbers_given
from orchestrator.rundir import RunDir
from quants.models import FileModel
from results.figures import count
from results.files import RunFiles, named_files
from results.parts import MOST_ROWS
from results.reading import ATTEMPTS_FOLDER, read_files
from results.rows import SchemaError, complete_row
from results.seal import TornFileError
from runners.exams import get_exam
from runners.row import DEFAULT_VARIANT, NO_QUANT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from orchestrator.plan import Plan
    from orchestrator.terminal import Printer
    from results.store import RunStore
    from runners.exams.base import Exam
    from runners.work import Cell, Job


def reuse(
    donors: Sequence[Path],
    plan: Plan,
    store: RunStore,
    folder: RunDir,
    out: Printer,
    *,
    exams: Mapping[str, Exam] | None = None,
) -> int:
    """Commits what `donors` have of the jobs of `plan` that have no score yet, and returns how many those were.

    `exams` has those of the sweep that are not ours.

    The first run that has a job gives it. Killed in between, the next start takes the rest.

    Raises:
        RunFolderError: one of them is no run folder, or is this one.
        StoreError: a run cannot be read, or this one not be written.
    """
    for donor in donors:
        RunDir(donor).require()
        if donor.resolve() == folder.root.resolve():
            raise RunFolderError(f"{donor}: this is the run itself", hint="Give another one to --reuse.")
    finals = store.finals()
    jobs = {job.job_id: job for job in plan.jobs if finals.get(job.job_id, INFRASTRUCTURE) == INFRASTRUCTURE}
    numbers = numbers_given(store.attempts(), read_journal(folder.journal), jobs)
    cells = {cell.cell_id: cell for cell in plan.cells}
    total = 0
    for donor in donors:
        taken: list[dict[str, Any]] = []
        odd = gone = 0
        origin = _name_of(RunDir(donor))
        files = RunFiles(donor)
        for kept in _finals_of(donor, jobs, out):
            job = jobs[kept["job_id"]]
            row = _taken(kept, job, cells[job.cell_id], plan, number=numbers[job.job_id] + 1, origin=origin)
            if row is None:
                odd += 1
                continue
            if not _has_files(row, files):
                gone += 1
                continue
            del jobs[job.job_id]
            taken.append(row)
        for first in range(0, len(taken), MOST_ROWS):
            try:
                store.commit_many(taken[first : first + MOST_ROWS], files.read)
            except SchemaError as gone_since:  # they were there a moment ago
                raise RunFolderError(
                    f"{donor}: it was changed while rows were taken from it: {gone_since}", hint="Start again."
                ) from None
        total += len(taken)
        if taken or odd or gone:
            out.say(f"{count(len(taken), 'job')} taken from {donor}, not to be run again")
        else:
            out.say(*_why_nothing(donor, list(jobs.values()), plan))
        if odd:
            out.say(
                f"warning: {donor}: {count(odd, 'row')} left out, as they contradict their job's id or lack its scoring"
            )
        if gone:
            out.say(f"warning: {donor}: {count(gone, 'row')} left out, as files that they name are gone from that run")
        if other := sorted({str(row["grader_version"]) for row in taken if not _is_of_todays_grader(row, exams)}):
            out.say(
                f"warning: {donor}: some were graded by another version of the grader ({', '.join(other)}): "
                "`quantsweep regrade` with this run folder grades them with that of today"
            )
    return total


def _why_nothing(donor: Path, wanted: Sequence[Job], plan: Plan) -> list[str]:
    """What a run that gives nothing lacks, a line each."""
    nothing = f"nothing is taken from {donor}"
    if not wanted:
        return [f"{nothing}: every job of this sweep has its score"]
    try:
        lines = what_differs(wanted, plan, read_plan(RunDir(donor)))
    except RunFolderError:
        return [f"{nothing}: it has no score of an equal job, and no plan that says what its jobs differ in"]
    return [
        f"{nothing}: it has no score of an equal job. What the nearest differ in:",
        *(f"  {each}" for each in lines),
    ]


def _finals_of(donor: Path, jobs: Collection[str], out: Printer) -> Iterator[dict[str, Any]]:
    """The scored finals of `jobs` in another run; it may be running."""
    for path, found in read_files(donor / ATTEMPTS_FOLDER):
        if isinstance(found, TornFileError):
            out.say(f"warning: {path}: {found}; nothing is taken from it")
            continue
        for row in found.to_pylist():
            # `jobs` shrinks meanwhile: a run that two writers wrote may have a job twice.
            if row["final"] and row["job_id"] in jobs and row["outcome_class"] != INFRASTRUCTURE:
                yield row


def _taken(
    kept: Mapping[str, Any], job: Job, cell: Cell, plan: Plan, *, number: int, origin: str
) -> dict[str, Any] | None:
    """The row as it is in this run; None where it cannot be what its job's id says, or has no such score."""
    expected = {"exam": job.exam, "task": job.task, "seed": job.seed, "prompt_version": job.prompt_version}
    if isinstance(cell.model, FileModel):
        expected["file_sha256"] = cell.model.artifact.sha256
    else:
        expected |= {"provider": cell.model.provider, "provider_model": cell.model.model_id}
    scoring = plan.scoring[job.exam]
    changes: dict[str, Any] = {
        "sweep": plan.name,
        "model": cell.model.name,
        "quant": cell.model.quant or NO_QUANT,
        "variant": cell.variant or DEFAULT_VARIANT,
        "scoring": scoring,
        "attempt": number,
        "final": True,
        "regrade_of": None,
        "taken_out": None,
        "reused_from": kept["reused_from"] or origin,
        "schema_version": None,
    }
    if any(kept[name] != value for name, value in expected.items()):
        return None
    try:
        scores = json.loads(kept["scores"] or "null")
        if scores is not None:  # else nothing was looked at, as its time was up
            if type(score := scores[scoring]) not in {int, float} or not score >= 0:
                return None  # text and true are not scores, though `float` takes them
            changes["score"] = float(score)
        return complete_row({**kept, **changes})
    except (ValueError, TypeError, KeyError, OverflowError, SchemaError, RecursionError):
        return None


def _has_files(row: Mapping[str, Any], files: RunFiles) -> bool:
    """Whether all that a row names is there; a row of somebody else's run may name anything."""
    try:
        return all(files.read(file.sha256) is not None for file in named_files(row["files"]))
    except SchemaError:
        return False


def _is_of_todays_grader(row: Mapping[str, Any], exams: Mapping[str, Exam] | None) -> bool:
    return bool(row["grader_version"] == get_exam(row["exam"], exams).grader_version)


def _name_of(donor: RunDir) -> str:
    """The id of a run; the name of its folder where it does not say."""
    try:
        return str(donor.read_identity()["run_id"])
    except RunFolderError:
        return donor.root.resolve().name
