"""`quantsweep exams`: the exams there are, and the proof of a grader."""

from __future__ import annotations

import json
from dataclasses import asdict


def list_exams(*, as_json: bool) -> str:
    """Every exam with its full marks and scorings."""
    from runners.exams import exam_names, get_exam

    found = [get_exam(name) for name in exam_names()]
    if as_json:
        return json.dumps(
            [
                {"name": e.name, "version": e.version, "score_max": e.score_max, "scorings": list(e.scorings)}
                for e in found
            ],
            indent=2,
        )
    width = max(len(exam.name) for exam in found)
    return "\n".join(
        f"{exam.name:{width}}  /{exam.score_max:g}  {exam.language}, version {exam.version}, "
        f"scorings: {', '.join(exam.scorings)}"
        for exam in found
    )


def check(name: str, *, as_json: bool) -> tuple[str, bool]:
    """The proof of the exam's grader as text, and whether it holds.

    Raises:
        RunnersError: there is no such exam, or no sandbox.
    """
    from runners.exams.check import check_exam
    from runners.sandbox import open_sandbox

    report = check_exam(name, open_sandbox())
    return (json.dumps(asdict(report), indent=2) if as_json else "\n".join(report.lines())), report.ok
