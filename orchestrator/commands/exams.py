"""`quantsweep exams`: the exams there are, and the proof of a grader."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from orchestrator.terminal import Json

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.terminal import Part


def list_exams(*, as_json: bool) -> list[Part]:
    """Every exam with its full marks and scorings, and what it needs of a machine: whether this one has it."""
    from profiles.probe.needs import find_needs
    from runners.exams import exam_names, get_exam

    found = [get_exam(name) for name in exam_names()]
    needs = {exam.name: find_needs(exam.needs) for exam in found}
    if as_json:
        return [
            Json(
                [
                    {
                        "name": e.name,
                        "prompt_version": e.prompt_version,
                        "grader_version": e.grader_version,
                        "score_max": e.score_max,
                        "scorings": list(e.scorings),
                        "needs": [need.to_dict() for need in needs[e.name]],
                    }
                    for e in found
                ]
            )
        ]
    from rich.text import Text

    width = max(len(exam.name) for exam in found)
    parts: list[Part] = []
    for exam in found:
        parts.append(
            Text(
                f"{exam.name:{width}}  /{exam.score_max:g}  {exam.language}, grader {exam.grader_version}, "
                f"scorings: {', '.join(exam.scorings)}"
            )
        )
        parts += [Text(f"{'':{width}}  needs {need.what}: {need.found or need.sentence}") for need in needs[exam.name]]
    return parts


def new(folder: Path, *, language: str, form: str) -> list[Part]:
    """Makes the folder of an exam, and says what to do with it.

    Raises:
        RunnersError: it cannot be made, or something is there already.
    """
    from rich.text import Text

    from orchestrator.cli.typed import command
    from runners.exams.folder.new import new_exam

    written = new_exam(folder, language=language, form=form)
    named = str(folder) if "/" in str(folder) else f"./{folder}"
    lines = [str(path) for path in written]
    lines += ["", f"To prove it: {command('exams', 'check', named)}"]
    lines += [f"In a sweep: exams = [{json.dumps(named)}], a path from the spec's folder"]
    return [Text(line) for line in lines]


def check(name: str, *, as_json: bool) -> tuple[list[Part], bool]:
    """The proof of the grader of an exam, by its name or the path of its folder, and whether it holds.

    Raises:
        RunnersError: there is no such exam, no sandbox, or not what the exam needs.
    """
    from runners.exams import exam_names, is_folder
    from runners.exams.check import check_exam
    from runners.sandbox import open_sandbox

    taken = ""
    if is_folder(name):  # whose grader may be anybody's, and may end its process
        from runners.exams.check_apart import check_apart

        report = check_apart(name)
        if report.exam in exam_names():
            taken = f"note: {report.exam!r} is an exam of quantsweep; a sweep takes this one under another name only"
    else:
        report = check_exam(name, open_sandbox())
    lines = report.lines()
    return ([Json(asdict(report))] if as_json else [*lines[:-1], *filter(None, [taken]), lines[-1]]), report.ok
