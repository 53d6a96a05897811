"""The exams of a run: a user's folders read where they lie, and all kept in the run folder as they were.

A folder may be changed, moved or lost between two starts. What it asks is part of what the rows are, and may not change
in one run folder; how it grades may, as that of our own exams does, and `quantsweep regrade` grades what is there anew.
Ours are folders as well, and an installation may be changed between two starts: they are held to the same.
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
    """The exams of the plan that are not ours, by name; all of the plan's are kept in the run folder from now on.

    Raises:
        RunFolderError: one is neither where the plan says nor kept, or asks something else than the plan's jobs do.
    """
    for name in dict.fromkeys(job.exam for job in plan.jobs if job.exam not in plan.folders):
        _check_ours(name, plan, folder, out)
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


def _check_ours(name: str, plan: Plan, folder: RunDir, out: Printer) -> None:
    """Refuses one of our exams that asks something else than the run's rows answer, whatever version it calls that.

    Raises:
        RunFolderError: it does, or there is no such exam in this version.
    """
    from runners.exams import get_exam
    from runners.exams.base import UnknownExam
    from runners.exams.folder.exam import FolderExam

    hint = (
        "Go on with the quantsweep that the run was begun with (`quantsweep_version` in its rows), as it was installed "
        "then; or begin a new run: --out DIR."
    )
    try:
        exam = get_exam(name)
    except UnknownExam:
        raise RunFolderError(f"{folder.root}: this quantsweep has no exam {name}", hint=hint) from None
    asked = {job.prompt_version for job in plan.jobs if job.exam == name}
    if exam.prompt_version not in asked:
        versions = ", ".join(sorted(asked))
        raise RunFolderError(
            f"{folder.root}: the prompt of the exam {name} is version {exam.prompt_version} here, and this run's rows "
            f"answer version {versions}",
            hint=hint,
        )
    if plan.scoring[name] not in exam.scorings:
        raise RunFolderError(
            f"{folder.root}: the exam {name} has no scoring {plan.scoring[name]} any more, by which this run is scored",
            hint=hint,
        )
    if not isinstance(exam, FolderExam):
        return
    kept = _kept(name, folder)
    if kept is not None and kept.tasks() != exam.tasks():
        raise RunFolderError(
            f"{folder.root}: the prompt of the exam {name} was changed in this installation and still calls itself "
            f"version {exam.prompt_version}: it is not the one that this run's rows answer",
            hint=hint,
        )
    if kept is not None and kept.settings.grader_version == exam.grader_version and kept.scores_by != exam.scores_by:
        out.say(
            f"warning: the grader of the exam {name} was changed in this installation and still calls itself version "
            f"{exam.grader_version}: rows of this run that it graded before and will grade now cannot be told apart; "
            f"`quantsweep regrade {folder.root}` grades all of them by what is here now"
        )
    _keep(exam, folder)


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
