"""Proves a grader before its numbers count: full marks, none, a lost point for each mutant, nothing for cheats."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from profiles.homes import expanded
from runners.errors import RunnersError
from runners.exams import get_exam, is_folder
from runners.exams.base import Exam, Grade, NeedMissing, Reply, Specimen, Transcript
from runners.exams.box import Box
from runners.outcomes import Outcome
from runners.sandbox.cleanup import remove_tree
from runners.told import told

if TYPE_CHECKING:
    from collections.abc import Callable

    from runners.sandbox.base import Sandbox

_TOLERANCE = 1e-9
_MOST_NAMED = 8
_MOST_LOST = 3
_NOTE_CHARS = 200


@dataclass(frozen=True)
class Finding:
    """What became of one specimen.

    `problem` says what the grader got wrong; empty where it was right. `items` are what it was graded by, `lost` those
    of them that it did not pass.
    """

    name: str
    kind: str
    scores: dict[str, float]
    outcome: str
    problem: str
    items: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the grader was right."""
        return not self.problem


@dataclass(frozen=True)
class CheckReport:
    """What became of all of them, in order."""

    exam: str
    version: str
    score_max: float
    isolation: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether the grader may be trusted."""
        return all(finding.ok for finding in self.findings)

    @property
    def untested(self) -> tuple[str, ...]:
        """Items that a reference passes and no mutant loses: nothing shows that they measure anything."""
        passed = dict.fromkeys(item for each in self.findings if each.kind == "reference" for item in each.items)
        lost = {item for each in self.findings if each.kind == "mutant" for item in each.lost}
        return tuple(item for item in passed if item not in lost)

    def lines(self) -> list[str]:
        """The report as text: one line each, then what no mutant tests, the verdict last."""
        found = [_line(finding) for finding in self.findings]
        wrong = sum(not finding.ok for finding in self.findings)
        verdict = f"{wrong} of {len(self.findings)} answers are graded wrongly" if wrong else "the grader is right"
        if untested := self.untested:
            names = ", ".join(map(repr, untested[:_MOST_NAMED]))
            more = f" and {len(untested) - _MOST_NAMED} more" if len(untested) > _MOST_NAMED else ""
            found.append(f"note: no mutant loses {names}{more}: nothing shows yet that this measures anything")
            verdict += "" if wrong else " about these answers"
        return [*found, f"{self.exam} (grader {self.version}), isolated by {self.isolation}: {verdict}"]


def check_exam(name: str, sandbox: Sandbox, *, on_finding: Callable[[Finding], None] | None = None) -> CheckReport:
    """Grade every specimen of an exam, and the empty answer.

    Args:
        name: The exam's, or the path of its folder.
        sandbox: Where the specimens run.
        on_finding: Called after each specimen, for progress.

    Raises:
        UnknownExam, ExamFolderError, SpecimenError: There is no such exam, or it or its proof cannot be read.
        NeedMissing: This machine lacks what the exam needs; the hint has the command that mends it.
        SandboxFailed: The sandbox could not be started.
    """
    from concurrent.futures import ThreadPoolExecutor

    from profiles.probe.needs import find_needs

    exam = find_exam(name)
    if missing := [need for need in find_needs(exam.needs) if need.found is None]:
        said = "; ".join(f"{need.what} is missing ({need.problem})" for need in missing)
        raise NeedMissing(
            f"exam {name!r} cannot be graded here: {said}", "; ".join(need.cure or "" for need in missing)
        )
    empty = Specimen("empty answer", "published", "", bounds=dict.fromkeys(exam.scorings, 0.0))
    findings = []
    items: dict[str, set[str]] = {}  # what there is to lose, by the references, which come before the mutants
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            specimens = (empty, *exam.specimens())
            examined = pool.map(lambda specimen: _examine(exam, specimen, sandbox), specimens)
            for specimen, found in zip(specimens, examined, strict=True):
                finding = found
                if specimen.kind == "reference":
                    items.setdefault(specimen.task, set()).update(found.items)
                elif (known := items.get(specimen.task)) and (unknown := sorted(set(specimen.loses) - known)):
                    said = f"it is to lose {', '.join(map(repr, unknown))}, which is no item; there are: "
                    said += ", ".join(map(repr, sorted(known)[:_MOST_NAMED]))
                    finding = replace(found, problem="; ".join(filter(None, (said, found.problem))))
                findings.append(finding)
                if on_finding is not None:
                    on_finding(finding)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # who is asked to stop begins with no more of them
    return CheckReport(exam.name, exam.grader_version, exam.score_max, sandbox.isolation, tuple(findings))


def find_exam(name: str) -> Exam:
    """One of our exams by its name, or the exam in a folder by its path.

    Raises:
        UnknownExam, ExamFolderError: There is none.
    """
    if not is_folder(name):
        return get_exam(name)
    from runners.exams.folder.exam import open_exam

    return open_exam(expanded(name))


def _examine(exam: Exam, specimen: Specimen, sandbox: Sandbox) -> Finding:
    """What became of a specimen."""
    folder = Path(tempfile.mkdtemp(prefix="quantsweep-check-"))
    try:
        task = specimen.task_of(exam)
        transcript = Transcript.of(task, Reply(specimen.text, finish_reason="stop"))
        grade = exam.grade(task, transcript, Box(sandbox, folder))
    except (RunnersError, OSError):  # this machine's, or a folder's that is no exam
        raise
    except BaseException as error:  # a grader that fails over an answer is wrong about it; Ctrl-C is not of this thread
        problem = f"the grader failed: {told(error)}"
        return Finding(specimen.name, specimen.kind, {}, Outcome.GRADER_CRASH.value, problem)
    finally:
        remove_tree(folder)
    problems = problems_of(exam, specimen, grade)
    if problems and specimen.kind == "reference":
        problems += _said_of(grade)
    return Finding(
        specimen.name,
        specimen.kind,
        grade.scores,
        grade.outcome.value,
        "; ".join(problems),
        items=tuple(dict.fromkeys(item.name for item in grade.items)),
        lost=tuple(dict.fromkeys(item.name for item in grade.items if not item.passed)),
    )


def problems_of(exam: Exam, specimen: Specimen, grade: Grade) -> list[str]:
    """What a grade gets wrong about a specimen; empty where it is right."""
    if specimen.kind == "reference":
        less = {scoring: f"{points:g}" for scoring, points in specimen.bounds.items()}
        return [
            f"{scoring} gives {score:g} instead of {less.get(scoring, 'full marks')}"
            for scoring, score in grade.scores.items()
            if abs(score - specimen.bounds.get(scoring, exam.score_max)) > _TOLERANCE
        ]
    if specimen.kind == "mutant":
        passed = {item.name for item in grade.items if item.passed}
        known = {item.name for item in grade.items}
        found = [f"does not lose {item!r}" for item in specimen.loses if item in passed]
        found += [] if known else ["nothing was graded"]
        return found or ([] if min(grade.scores.values()) < exam.score_max else ["still has full marks"])
    wrong = []
    for scoring, bound in specimen.bounds.items():
        score = grade.scores[scoring]
        if specimen.kind == "cheat" and score > bound + _TOLERANCE:
            wrong.append(f"{scoring} gives {score:g}, more than {bound:g}")
        if specimen.kind == "published" and abs(score - bound) > _TOLERANCE:
            wrong.append(f"{scoring} gives {score:g} instead of {bound:g}")
    return wrong


def _said_of(grade: Grade) -> list[str]:
    """What a grader says of the items that a reference lost, or where it names none, the end of its log."""
    lost = [item for item in grade.items if not item.passed]
    said = [f"it loses {item.name!r}" + (f" ({item.note[:_NOTE_CHARS]})" if item.note else "") for item in lost]
    more = [f"and {len(lost) - _MOST_LOST} items more"] if len(lost) > _MOST_LOST else []
    log = [line for line in (grade.log or "").splitlines() if line.strip()]
    notes = any(item.note for item in lost)
    return [*said[:_MOST_LOST], *more, *([] if notes or not log else [f"its log ends: {log[-1][:_NOTE_CHARS]}"])]


def _line(finding: Finding) -> str:
    scores = ", ".join(f"{scoring} {score:.1f}" for scoring, score in finding.scores.items())
    mark = "ok" if finding.ok else "WRONG"
    text = f"{mark:<6}{finding.kind:<10}{finding.name:<24}{scores} ({finding.outcome})"
    return f"{text}: {finding.problem}" if finding.problem else text
