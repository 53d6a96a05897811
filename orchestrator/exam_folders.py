"""The exams of a run that are folders of its user's own: read where they lie, and kept in the run folder as they were.

A folder may be changed, moved or lost between two starts. What it asks is part of what the rows are, and may not change
in one run folder; how it grades may, as that of our own exams does, and `quantsweep regrade` grades what is there anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import RunFolderError, one_line
from orchestrator.kept_plan import read_plan
from orchestrator.rundir import write_durably
from results.plainfile import plain_folder, read_plain

if TYPE_CHECKING:
    from orchestrator.plan import Plan
    from orchestrator.rundir import RunDir
    from orchestrator.terminal import Printer
    from runners.exams.folder.exam import FolderExam


def exams_of_run(plan: Plan, folder: RunDir, out: Printer) -> dict[str, FolderExam]:
    """The exams of the plan that are not ours, by name, each kept in the run folder from now on.

    Raises:
        RunFolderError: one is neither where the plan says nor kept, or asks something else than the plan's jobs do.
    """
    found: dict[str, FolderExam] = {}
    for name, path in plan.folders.items():
        exam = found[name] = _opened(name, path, folder, out)
        asked = {job.prompt_version for job in plan.jobs if job.exam == name}
        if exam.prompt_version not in asked or plan.scoring[name] not in exam.scorings:
            raise RunFolderError(
                f"{folder.root}: the exam {name} ({path}) does not ask any more what this run's rows answer, or has "
                f"lost the scoring {plan.scoring[name]}",
                hint="Put its prompt back as it was, or give it another name in exam.toml; or a new folder: --out DIR.",
            )
        _keep(exam, folder)
    return found


def exams_to_regrade(folder: RunDir, out: Printer) -> dict[str, FolderExam]:
    """The exams of a run that are not ours, as they are today; what a run without a plan has of them is not known."""
    try:
        plan = read_plan(folder)
    except RunFolderError:
        return {}
    found: dict[str, FolderExam] = {}
    for name, path in plan.folders.items():
        try:
            found[name] = _opened(name, path, folder, out)
        except RunFolderError as gone:
            out.say(f"warning: {gone.message}")
    return found


def _opened(name: str, path: str, folder: RunDir, out: Printer) -> FolderExam:
    """The exam as it lies in its folder; as it was kept where that is no such exam any more, which is said."""
    from runners.errors import RunnersError
    from runners.exams.folder.exam import open_exam

    try:
        exam = open_exam(Path(path))
        why = "" if exam.name == name else f"it is called {exam.name!r} by now"
    except RunnersError as error:
        why = one_line(error)
    if not why:
        return exam
    kept = _kept(name, folder)
    if kept is None:
        raise RunFolderError(
            f"the exam {name} cannot be read in {path}: {why}", hint="Mend it, or put the folder back."
        )
    out.say(f"warning: the exam {name} is taken as this run last had it, since in {path} it cannot be read: {why}")
    return kept


def _kept(name: str, folder: RunDir) -> FolderExam | None:
    from runners.errors import RunnersError
    from runners.exams.folder.content import MOST_BYTES
    from runners.exams.folder.exam import unpack_exam

    try:
        return unpack_exam(read_plain(folder.exams / f"{name}.zip", most_bytes=2 * MOST_BYTES))
    except (OSError, RunnersError):
        return None


def _keep(exam: FolderExam, folder: RunDir) -> None:
    from runners.exams.folder.content import MOST_BYTES

    packed, path = exam.content.pack(), folder.exams / f"{exam.name}.zip"
    try:
        plain_folder(folder.exams)
        try:
            if read_plain(path, most_bytes=2 * MOST_BYTES) == packed:
                return
        except FileNotFoundError:
            pass
    except OSError as error:
        raise RunFolderError(f"{error.filename or path}: cannot be used: {error.strerror or error}") from None
    write_durably(path, packed)
