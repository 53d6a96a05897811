"""Which jobs of a sweep are asked for where that depends on the scores: `seeds = "auto:5-60"`.

The plan has the jobs of all seeds. Of each model on each exam `results.contest` says how many seeds every cell is to
have, by the final rows alone; nothing of it is kept, so a driver that starts anew asks for the same. A job that is not
asked for is neither open nor failed, and is not among those that the run has; what has run all the same (it was handed
out before the verdict, or stems from another run) counts like any other.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from results.contest import Contest
from results.seed_notes import CellName, SeedNote
from runners.row import DEFAULT_VARIANT, NO_QUANT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from orchestrator.plan import Plan
    from results.contest import Rule
    from runners.work import Job

Group = tuple[str, str]
"""Model and exam: the cells of one model are compared with each other, on each exam for itself."""


def share_of(score: float | None, score_max: float | None) -> float | None:
    """A score as a share of full marks; None where there is none, as where the infrastructure failed."""
    return None if score is None or not score_max else min(max(score / score_max, 0.0), 1.0)


def seeding_of(plan: Plan) -> Seeding | None:
    """That of a plan; None where all of its jobs are asked for."""
    if plan.seeding is None:
        return None
    cells = {
        cell.cell_id: CellName(cell.model.name, cell.variant or DEFAULT_VARIANT, cell.model.quant or NO_QUANT)
        for cell in plan.cells
    }
    return Seeding(cells, plan.jobs, plan.seeding)


def seeding_of_rows(plan: Plan, rows: Iterable[Mapping[str, Any]]) -> tuple[Seeding, int] | None:
    """The same with the final rows of a run, and how many jobs are asked for or done; None where all are asked for."""
    if (seeding := seeding_of(plan)) is None:
        return None
    known = {job.job_id for job in plan.jobs}
    done = {row["job_id"]: share_of(row["score"], row["score_max"]) for row in rows if row["final"]}
    for job_id in known.intersection(done):
        seeding.put(job_id, done[job_id])
    seeding.settle()
    return seeding, sum(job_id in done or seeding.is_asked_for(job_id) for job_id in known)


@dataclass(slots=True)
class _Place:
    """Where a job belongs: cell, number of its seed, task."""

    group: Group
    cell_id: str
    seed: int
    task: str


@dataclass(frozen=True, slots=True)
class Change:
    """Jobs that are asked for now, in order, and jobs that are not any more."""

    more: Sequence[str]
    fewer: Sequence[str]

    def __bool__(self) -> bool:
        return bool(self.more or self.fewer)


class Seeding:
    """Tells from the scores which jobs are asked for. `put` takes in final rows, `settle` says what follows."""

    def __init__(self, cells: Mapping[str, CellName], jobs: Iterable[Job], rule: Rule) -> None:
        """`cells` have the names of each; the `jobs` of a task come in the order of their seeds."""
        self.rule = rule
        self._names = cells
        self._places: dict[str, _Place] = {}
        self._jobs: dict[tuple[Group, str], dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
        seeds: dict[tuple[Group, str, str], int] = defaultdict(int)
        for job in jobs:
            group = cells[job.cell_id].model, job.exam
            number = seeds[group, job.cell_id, job.task]
            seeds[group, job.cell_id, job.task] += 1
            self._places[job.job_id] = _Place(group, job.cell_id, number, job.task)
            self._jobs[group, job.cell_id][number].append(job.job_id)
        members: dict[Group, list[str]] = defaultdict(list)
        for group, cell_id in self._jobs:
            members[group].append(cell_id)
        self._contests = {group: Contest(names, rule) for group, names in members.items()}
        self._shares: dict[str, float | None] = {}
        self._targets: dict[tuple[Group, str], int] = dict.fromkeys(self._jobs, 0)
        self._dirty: dict[Group, None] = dict.fromkeys(self._contests)
        self._unsaid: dict[Group, None] = {}
        self._absent: frozenset[str] = frozenset()

    def is_asked_for(self, job_id: str) -> bool:
        """Whether a job is asked for, as of the last `settle`."""
        place = self._places[job_id]
        return place.seed < self._targets[place.group, place.cell_id]

    def put(self, job_id: str, share: float | None) -> None:
        """Takes in that a job has its final row, with a score as a share of full marks, or without one."""
        place = self._places[job_id]
        self._shares[job_id] = share
        tasks = self._jobs[place.group, place.cell_id][place.seed]
        if all(each in self._shares for each in tasks):
            shares = [self._shares[each] for each in tasks]
            scored = [each for each in shares if each is not None]
            # Without one of its tasks a seed has no score that could be compared.
            mean = sum(scored) / len(shares) if len(scored) == len(shares) else None
            self._contests[place.group].put(place.cell_id, place.seed, mean)
            self._dirty[place.group] = self._unsaid[place.group] = None

    def pass_over(self, waiting: Collection[str], *, stuck: bool) -> bool:
        """Takes in which cells nobody can run now, so that the others do not wait for them; whether that is news.

        `waiting` have no place; where the sweep is `stuck`, nothing else is under way or to be done.
        """
        absent = frozenset(waiting) if stuck else self._absent.intersection(waiting)
        if absent == self._absent:
            return False
        self._absent = absent
        for contest in self._contests.values():
            contest.leave_out(absent)
        self._dirty = dict.fromkeys(self._contests)
        return True

    def settle(self) -> Change:
        """What is asked for now, beside what was at the last call."""
        more: list[str] = []
        fewer: list[str] = []
        for group in self._dirty:
            for cell_id, target in self._contests[group].targets().items():
                before, jobs = self._targets[group, cell_id], self._jobs[group, cell_id]
                self._targets[group, cell_id] = target
                more += [job_id for seed in range(before, target) for job_id in jobs[seed]]
                fewer += [job_id for seed in range(target, before) for job_id in jobs[seed]]
        self._dirty.clear()
        return Change(more, fewer)

    def may_ask_for_more(self, cell_id: str) -> bool:
        """Whether a cell has jobs that are not asked for, and no verdict yet that would keep it so."""
        for group, contest in self._contests.items():
            if (group, cell_id) in self._jobs and contest.seeds(cell_id) < self.rule.most:
                look = contest.look()
                if look.standings[cell_id] in {"undecided", "best"} and "undecided" in look.standings.values():
                    return True
        return False

    def notes(self, *, changed: bool = False) -> list[SeedNote]:
        """Where every cell stands; with `changed`, of models and exams that a seed has ended of since the last call."""
        groups = list(self._unsaid if changed else self._contests)
        if changed:
            self._unsaid.clear()
        found = []
        for group in groups:
            contest = self._contests[group]
            look = contest.look()
            asks = {cell_id: self._targets[group, cell_id] > contest.seeds(cell_id) for cell_id in look.standings}
            found += [
                SeedNote(
                    model=group[0],
                    exam=group[1],
                    cell=self._names[cell_id].label,
                    seeds=contest.seeds(cell_id),
                    standing=standing,
                    best=None if look.best is None else self._names[look.best].label,
                    open=asks[cell_id],
                    finished=not any(asks.values()),
                    variant=self._names[cell_id].variant,
                    quant=self._names[cell_id].quant,
                )
                for cell_id, standing in look.standings.items()
            ]
        return found
