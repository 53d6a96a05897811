"""Why another run has nothing for a sweep: what its nearest jobs differ in from those that are wanted."""

from __future__ import annotations

from collections import defaultdict
from itertools import islice
from typing import TYPE_CHECKING, Final

from orchestrator.growth import differences
from orchestrator.plan import digest
from results.answer import exam_name
from results.figures import count, ranges
from runners.work import cell_identity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from orchestrator.plan import Plan
    from runners.work import Cell, Job

MOST_LINES: Final = 6
_MOST_CELLS: Final = 200
"""Of each run that are held against one another: what differs is said a line a difference, not a line a cell."""
_MOST_NAMED: Final = 3
_MOST_CHARS: Final = 120


def what_differs(wanted: Collection[Job], plan: Plan, other: Plan) -> list[str]:
    """What the jobs `wanted` of `plan` differ in from the nearest ones of `other`, a line each, the nearest first.

    Nearest is the cell with the same file, else of the same name, whose settings differ least.
    """
    jobs, theirs = _by_cell(wanted), _by_cell(other.jobs)
    cells = [cell for cell in plan.cells if cell.cell_id in jobs]
    by_file: Mapping[str, list[Cell]] = defaultdict(list)
    by_name: Mapping[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in other.cells:
        by_file[digest(cell.model.identity())].append(cell)
        by_name[cell.model.name, cell.model.quant].append(cell)
    found: dict[str, list[str]] = defaultdict(list)
    least: dict[str, int] = {}
    for cell in islice(cells, _MOST_CELLS):
        near = by_file.get(digest(cell.model.identity())) or by_name[cell.model.name, cell.model.quant]
        lines = min((_cell_differences(cell, each) for each in near[:_MOST_CELLS]), key=len, default=None)
        if lines is None:
            lines = ["its file is not in that run"]
        elif not lines:
            twin = next(each for each in near if not _cell_differences(cell, each))
            lines = list(_job_differences(jobs[cell.cell_id], theirs[twin.cell_id]))
        for text in lines:
            found[text].append(cell.label)
            least[text] = min(least.get(text, len(lines)), len(lines))
    ordered = sorted(found, key=lambda text: least[text])
    more = [f"and {count(len(ordered) - MOST_LINES, 'more difference')}"] if len(ordered) > MOST_LINES else []
    return [f"{_named(found[text])}: {text}" for text in ordered[:MOST_LINES]] + more


def _by_cell(jobs: Iterable[Job]) -> Mapping[str, list[Job]]:
    found: Mapping[str, list[Job]] = defaultdict(list)
    for job in jobs:
        found[job.cell_id].append(job)
    return found


def _cell_differences(cell: Cell, other: Cell) -> list[str]:
    mine = cell_identity(cell.model, cell.engine, cell.sampling)
    theirs = cell_identity(other.model, other.engine, other.sampling)
    lines = [] if mine.pop("model") == theirs.pop("model") else ["another file under that name"]
    return lines + [
        f"{key}: there {_short(there)}, here {_short(here)}" for key, there, here in differences(theirs, mine)
    ]


def _short(value: object) -> str:
    """A setting, of somebody else's plan perhaps, as it is unless it would fill the screen."""
    text = str(value)
    return text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]}..."


def _job_differences(mine: Sequence[Job], theirs: Sequence[Job]) -> Iterator[str]:
    """What jobs of equal cells differ in: exam, version of its prompt, seeds."""
    versions = {(job.exam, job.task): job.prompt_version for job in theirs}
    seeds = {job.seed for job in theirs}
    asked = {(job.exam, job.task): job.prompt_version for job in mine}
    for (exam, task), version in asked.items():
        there = versions.get((exam, task))
        if there is None:
            yield f"exam {exam_name(exam, task)} is not in that run"
        elif there != version:
            yield f"prompt of {exam_name(exam, task)}: there version {there}, here {version}"
    if not seeds & {job.seed for job in mine}:
        yield f"seeds: there {ranges(seeds)}, here {ranges({job.seed for job in mine})}"
    elif {job.job_id for job in mine} & {job.job_id for job in theirs}:
        yield "equal jobs are there, and none has a score that counts (failed, not run yet, or taken out)"


def _named(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - _MOST_NAMED} more" if len(labels) > _MOST_NAMED else ""
    return ", ".join(labels[:_MOST_NAMED]) + more
