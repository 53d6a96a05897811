"""`quantsweep regrade`: grades the saved answers of a run again, keeps the earlier grades, and says what changed.

No Ray, no GPU, no model: what a row holds is all that is needed. A new grade is a row of its own, with the next attempt
number of its job, and takes the final mark from the earlier one in the rename that writes it (`results.store`). Killed
at any moment, the same command goes on: the journal says which answers were graded since it was first started.
"""

from __future__ import annotations

import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from orchestrator.exam_folders import exams_to_regrade
from orchestrator.journal import Journal, read_journal
from orchestrator.needs import why_refused
from orchestrator.restore import numbers_given
from orchestrator.rundir import RunDir
from profiles.probe.needs import find_needs
from results.answer import cell_name, exam_name
from results.figures import count
from results.store import RunStore
from runners.errors import RunnersError
from runners.exams import exam_names, get_exam, is_folder
from runners.exams.check import find_exam
from runners.regrading import clears, graded_again, is_same_grade, why_not
from runners.selfcheck import SelfChecks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from orchestrator.terminal import Printer
    from runners.exams.base import Exam
    from runners.regrading import NewGrade
    from runners.sandbox.base import Sandbox

STARTED: Final = "regrade_started"
DONE: Final = "regraded"
ENDED: Final = "regrade_ended"


@dataclass(frozen=True, slots=True)
class Grading:
    """An earlier or a new grade."""

    attempt: int
    score: float
    outcome: str
    grader_version: str | None


@dataclass(frozen=True, slots=True)
class Regraded:
    """An answer that was graded again."""

    job_id: str
    cell: str
    exam: str
    task: str | None
    seed: int
    before: Grading
    after: Grading

    @property
    def changed(self) -> bool:
        """Whether the answer is worth more or less than before, or ended otherwise."""
        return (self.before.score, self.before.outcome) != (self.after.score, self.after.outcome)


@dataclass(frozen=True, slots=True)
class NotRegraded:
    """An answer that was not: `reason` says why; `failed` that trying again may help."""

    job_id: str
    cell: str
    exam: str
    task: str | None
    seed: int
    reason: str
    failed: bool


@dataclass(slots=True)
class Report:
    """What came of it. `unscored` counts jobs that the infrastructure failed: there is no grade to make anew."""

    isolation: str
    regraded: list[Regraded] = field(default_factory=list)
    left: list[NotRegraded] = field(default_factory=list)
    unscored: int = 0

    @property
    def failed(self) -> bool:
        """Whether a grading failed here that might succeed."""
        return any(each.failed for each in self.left)

    def to_json(self) -> dict[str, Any]:
        """The report for programs."""
        return {
            "isolation": self.isolation,
            "regraded": [asdict(each) | {"changed": each.changed} for each in self.regraded],
            "not_regraded": [asdict(each) for each in self.left],
            "unscored": self.unscored,
        }

    def lines(self) -> list[str]:
        """The report for a person: a line a cell, the answers that changed below it, and who was left out."""
        cells: dict[tuple[str, str], list[Regraded]] = defaultdict(list)
        for each in sorted(self.regraded, key=lambda each: (each.task or "", each.seed)):
            cells[each.exam, each.cell].append(each)
        lines = [line for (exam, cell), found in sorted(cells.items()) for line in _of_cell(exam, cell, found)]
        changed = sum(each.changed for each in self.regraded)
        lines.append(
            f"{count(len(self.regraded), 'answer')} graded again in {self.isolation}: {changed} changed, "
            f"{len(self.regraded) - changed} as before"
        )
        if self.unscored:
            lines.append(f"not graded: {self.unscored} without an answer, as the infrastructure failed: they stay so")
        reasons: dict[str, list[str]] = defaultdict(list)
        for left in self.left:
            reasons[left.reason].append(f"{left.cell} on {exam_name(left.exam, left.task)}, seed {left.seed}")
        lines += [f"not graded again, {reason}: {'; '.join(whose)}" for reason, whose in reasons.items()]
        return lines


def regrade(run_folder: Path, *, exam: str | None, out: Printer) -> Report:
    """Grades the final answers of a run again, those of one exam or of all, on this machine.

    An answer whose grade is the same as before gets no new row unless it was graded by another version of the grader.

    Raises:
        RunFolderError: there is no run, or a driver has it.
        StoreError: its rows cannot be read or written; what was graded before is kept.
        RunnersError: there is no such exam, or no sandbox.
    """
    from runners.sandbox import open_sandbox

    folder = RunDir(run_folder)
    folder.require()
    exams = _exams(folder, exam, out)
    with folder.locked(), RunStore(folder.root) as store, Journal(folder.journal) as journal:
        for torn in store.quarantined:
            out.say(f"warning: {torn}")
        sandbox = open_sandbox()
        work = _Work(store, journal, exams, sandbox, Report(sandbox.isolation), whole=exam is None)
        what = {"exam": exam, "versions": {name: each.grader_version for name, each in exams.items()}}
        since = _unfinished(read_journal(folder.journal), what)
        if since is None:
            journal.append(STARTED, durable=True, **what)
        else:
            out.say("going on with a regrade that was stopped")
            work.since, work.done = since
        work.numbers = numbers_given(store.attempts(), read_journal(folder.journal))
        work.do(out)
        if not work.report.failed:
            journal.append(ENDED, durable=True, **what)
        return work.report


def _exams(folder: RunDir, asked: str | None, out: Printer) -> dict[str, Exam]:
    """The exams to grade by: one by its name or its folder, or all; those of the run's own folders among them."""
    if asked is not None and is_folder(asked):
        found = find_exam(asked)
        return {found.name: found}
    own: dict[str, Exam] = {**exams_to_regrade(folder, out)}
    if asked is not None:
        return {asked: own[asked] if asked in own else get_exam(asked)}
    return {name: get_exam(name) for name in exam_names()} | own


def _unfinished(lines: Iterable[Mapping[str, Any]], what: Mapping[str, Any]) -> tuple[datetime, set[str]] | None:
    """When the last regrade of this kind began and which jobs it had looked at; None if it came to its end."""
    found: tuple[datetime, set[str]] | None = None
    for line in lines:
        if line["event"] == STARTED and "at" in line:
            same = {name: line.get(name) for name in what} == dict(what)
            found = (datetime.fromisoformat(line["at"]), set()) if same else None
        elif line["event"] == ENDED:
            found = None
        elif line["event"] == DONE and found is not None:
            found[1].update(line.get("jobs", ()))
    return found


class _Work:
    """One regrade: a file of rows at a time, whose new rows are committed with one rename."""

    def __init__(
        self,
        store: RunStore,
        journal: Journal,
        exams: dict[str, Exam],
        sandbox: Sandbox,
        report: Report,
        *,
        whole: bool,
    ) -> None:
        self.whole = whole  # no exam was asked for, so one that is not there is missed
        self.store, self.journal, self.exams, self.sandbox, self.report = store, journal, exams, sandbox, report
        self.checks = SelfChecks(sandbox)
        self.since: datetime | None = None
        self.done: set[str] = set()
        self.numbers: dict[str, int] = {}
        self.refused: dict[str, str | None] = {}

    def do(self, out: Printer) -> None:
        total = len(self.store.finals())
        seen = 0
        earlier: list[dict[str, Any]] = []
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            for finals in self.store.finals_by_file():
                mine = [row for row in finals if self._is_wanted(row)]
                earlier += [_slim(row) for row in mine if self._was_graded_since(row)]
                open_rows = [row for row in mine if not self._was_graded_since(row) and self._can_be_graded(row)]
                for exam in {row["exam"] for row in open_rows}:
                    self.checks.of(self.exams[exam])  # once, before many ask for it at a time
                try:
                    results = list(pool.map(self._grade, open_rows))
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
                self._keep([(old, new) for old, new in zip(open_rows, results, strict=True) if new is not None])
                seen += len(finals)
                if seen < total:
                    out.say(f"{seen:,} of {count(total, 'job')} looked at")
        self._recall(earlier)

    def _is_wanted(self, row: Mapping[str, Any]) -> bool:
        if row["exam"] in self.exams:
            return True
        if self.whole:
            self._leave(row, "there is no such exam here")
        return False

    def _was_graded_since(self, row: Mapping[str, Any]) -> bool:
        """Whether the regrade that is gone on with has graded it already."""
        if row["job_id"] in self.done:
            return True
        return self.since is not None and row["regrade_of"] is not None and row["ended_at"] >= self.since

    def _can_be_graded(self, row: Mapping[str, Any]) -> bool:
        if row["outcome_class"] == "infrastructure":
            self.report.unscored += 1
            return False
        reason = why_not(row, self.exams[row["exam"]])
        if reason is not None:
            self._leave(row, reason)
            return False
        if (refused := self._why_refused(self.exams[row["exam"]])) is not None:
            self._leave(row, refused, failed=True)
        return refused is None

    def _why_refused(self, exam: Exam) -> str | None:
        """Why this machine cannot grade an exam, asked once; None where it can."""
        if exam.name not in self.refused:
            self.refused[exam.name] = why_refused(exam.name, find_needs(exam.needs))
        return self.refused[exam.name]

    def _grade(self, row: Mapping[str, Any]) -> NewGrade | None:
        try:
            exam = self.exams[row["exam"]]
            return graded_again(row, exam, self.sandbox, check=self.checks.of(exam))
        except RunnersError as error:
            self._leave(row, str(error).replace("\n", "; "), failed=True)
            return None

    def _leave(self, row: Mapping[str, Any], reason: str, *, failed: bool = False) -> None:
        self.report.left.append(
            NotRegraded(row["job_id"], _cell(row), row["exam"], row["task"], row["seed"], reason, failed)
        )

    def _keep(self, pairs: list[tuple[dict[str, Any], NewGrade]]) -> None:
        """Commits the grades that differ, all of them or none, and notes which answers were looked at."""
        rows = []
        contents: dict[str, bytes] = {}
        for old, (new, files) in pairs:
            kept = new
            if is_same_grade(old, new) and not clears(new, old):
                kept = old
            else:
                number = self.numbers[old["job_id"]] + 1
                self.numbers[old["job_id"]] = number
                new |= {"attempt": number, "final": True}
                rows.append(new)
                contents |= files
            self._report(old, kept)
        self.store.commit_many(rows, contents.get)
        if pairs:
            self.journal.append(DONE, durable=True, jobs=[old["job_id"] for old, _ in pairs])

    def _report(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        self.report.regraded.append(
            Regraded(old["job_id"], _cell(old), old["exam"], old["task"], old["seed"], _grading(old), _grading(new))
        )

    def _recall(self, graded: list[dict[str, Any]]) -> None:
        """Takes in what was graded before the regrade was stopped: its answers with the grades before them."""
        if not graded:
            return
        wanted = {row["job_id"]: row for row in graded}
        before: dict[str, dict[str, Any]] = {}
        for row in self.store.table(_SLIM).to_pylist():
            final = wanted.get(row["job_id"])
            if final is None or not self._is_grade_before(row, final):
                continue
            if row["job_id"] not in before or row["attempt"] > before[row["job_id"]]["attempt"]:
                before[row["job_id"]] = row
        for job_id, row in wanted.items():
            self._report(before.get(job_id, row), row)

    def _is_grade_before(self, row: Mapping[str, Any], final: Mapping[str, Any]) -> bool:
        if final["regrade_of"] is None or self.since is None or final["ended_at"] < self.since:
            return False  # looked at, and as before
        same_answer = (row["regrade_of"] or row["attempt"]) == final["regrade_of"]
        return bool(same_answer and row["attempt"] < final["attempt"])


_SLIM = (
    *("job_id", "attempt", "regrade_of", "model", "quant", "variant", "exam", "task", "seed"),
    *("score", "outcome", "grader_version", "ended_at"),
)


def _slim(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _SLIM}


def _cell(row: Mapping[str, Any]) -> str:
    return cell_name(row["model"], row["variant"], row["quant"])


def _grading(row: Mapping[str, Any]) -> Grading:
    return Grading(row["attempt"], float(row["score"]), row["outcome"], row["grader_version"])


def _of_cell(exam: str, cell: str, found: list[Regraded]) -> Iterator[str]:
    """A cell's means before and after, and each answer that changed."""
    before = sum(each.before.score for each in found) / len(found)
    after = sum(each.after.score for each in found) / len(found)
    changed = [each for each in found if each.changed]
    versions = " and ".join(sorted({str(each.before.grader_version) for each in found}))
    mean = f"mean {before:.1f}" if before == after and not changed else f"mean {before:.1f} -> {after:.1f}"
    yield (
        f"{cell} on {exam}, grader {versions} -> {found[0].after.grader_version}: {mean}, "
        f"{len(changed)} of {count(len(found), 'answer')} changed"
    )
    for each in changed:
        outcome = each.after.outcome
        if each.before.outcome != outcome:
            outcome = f"{each.before.outcome} -> {outcome}"
        task = "" if each.task in {None, "main"} else f"{each.task}, "
        yield f"  {task}seed {each.seed}: {each.before.score:g} -> {each.after.score:g} ({outcome})"
