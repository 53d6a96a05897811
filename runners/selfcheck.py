"""Whether this machine grades an exam rightly: a reference, an empty answer and a mutant, tried before it grades.

A toolchain that miscompiles, a library that is missing in the sandbox, a disk that loses writes: every answer of such a
machine may be graded wrongly, and nothing in its rows would say so. The whole proof (`runners.exams.check`) takes
minutes for some exams; this much of it takes a second or so for most, and is remembered until the machine is booted
again, or the grader, the sandbox or a compiler is another one. What it finds is a warning in every row that is graded
there: nothing is refused, and nothing is scored otherwise.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runners.errors import RunnersError
from runners.exams.base import Reply, Specimen, Transcript
from runners.exams.check import problems_of
from runners.scoring import grade_of
from runners.spool import state_dir
from runners.told import told

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runners.exams.base import Exam
    from runners.sandbox.base import Sandbox

OK: Final = "ok"
NO_PROOF: Final = "no proof"
FAILED: Final = "failed"

_ENOUGH_S: Final = 5.0
"""After so long the mutant is left out: the first grading waits for this."""
_CHARS: Final = 400
_FORGOTTEN_S: Final = 30 * 86400.0
_COMPILERS: Final = ("cc", "gcc", "clang", "c++", "g++", "clang++", "go", "node", "rustc")

_right: set[str] = set()
_checking = threading.Lock()


class SelfChecks:
    """What this machine is found to make of exams, one after the other; used by one thread.

    What is right is remembered by the whole machine; what is wrong for as long as this object lives, so that a machine
    that was mended, or was only disturbed, is tried again with the next lease.
    """

    def __init__(self, sandbox: Sandbox, note_traceback: Callable[[], None] = lambda: None) -> None:
        self._sandbox, self._note_traceback = sandbox, note_traceback
        self._found: dict[tuple[str, str], str] = {}

    def of(self, exam: Exam) -> str:
        """`ok`, `no proof: ...` where the exam has none that can be read, or `failed: ...`. Never raises.

        The first call for an exam may take as long as grading three answers.
        """
        try:
            asked = (exam.name, exam.grader_version)
            if asked not in self._found:
                self._found[asked] = " ".join(self._looked_up(exam).split())[:_CHARS]
            return self._found[asked]
        except Exception as error:  # a warning at most, whatever happens
            with contextlib.suppress(Exception):  # it formats the error, whose methods are the grader's
                self._note_traceback()
            return f"{FAILED}: the check itself: {told(error)}"[:_CHARS]

    def _looked_up(self, exam: Exam) -> str:
        key = _key(exam, self._sandbox)
        with _checking:  # several leases of one node wait for the first
            if key in _right or _marker(key).is_file():
                return OK
            found = self._tried(exam)
            if found.startswith(FAILED):  # a machine that was only disturbed does not do it twice
                found = self._tried(exam)
            if found == OK:
                _right.add(key)
                _remember(key)
        return found

    def _tried(self, exam: Exam) -> str:
        try:
            specimens = exam.specimens()
        except RunnersError as error:
            return f"{NO_PROOF}: {error}"
        chosen = _chosen(exam, specimens)
        if not any(specimen.kind == "reference" for specimen in chosen):
            return f"{NO_PROOF}: the exam has no reference"
        began_s = time.monotonic()
        for specimen in chosen:
            if specimen.kind == "mutant" and time.monotonic() - began_s > _ENOUGH_S:
                break
            task = specimen.task_of(exam)
            said = Transcript.of(task, Reply(specimen.text, finish_reason="stop"))
            what = f"{specimen.kind} {specimen.name}" if specimen.name != _EMPTY else _EMPTY
            try:
                grade = grade_of(exam, task, said, self._sandbox, self._note_traceback)
            except Exception as error:  # a grader that fails over an answer that is known
                return f"{FAILED}: {what} cannot be graded: {told(error)}"
            if wrong := problems_of(exam, specimen, grade):
                return f"{FAILED}: {what}: {'; '.join(wrong)}"
        return OK


_EMPTY: Final = "empty answer"


def _chosen(exam: Exam, specimens: Sequence[Specimen]) -> list[Specimen]:
    """The empty answer, then the first reference and the first mutant that answer the exam's first task."""
    first = exam.tasks()[0].name
    mine = [each for each in specimens if each.task in {"", first}]
    empty = Specimen(_EMPTY, "published", "", bounds=dict.fromkeys(exam.scorings, 0.0))
    found = [next((each for each in mine if each.kind == kind), None) for kind in ("reference", "mutant")]
    return [empty, *(each for each in found if each is not None)]


def _key(exam: Exam, sandbox: Sandbox) -> str:
    """What a finding holds for: exam, grader, sandbox, toolchains, and this boot of this machine."""
    from profiles.probe.needs import find_needs

    content = getattr(getattr(exam, "content", None), "sha256", "")
    compilers = []
    for name in _COMPILERS:
        if (path := shutil.which(name)) is not None:
            status = Path(path).stat()
            compilers.append([path, status.st_size, status.st_mtime_ns])
    needs = [[need.name, need.found, need.problem] for need in find_needs(exam.needs)]
    what = [exam.name, exam.grader_version, content, sandbox.isolation, needs, compilers, version("quantsweep")]
    return hashlib.sha256(json.dumps([*what, _boot()]).encode()).hexdigest()


def _boot() -> str:
    """Of this boot of the machine; of this process where the system does not tell boots apart."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return f"{os.getpid()}-{time.monotonic_ns()}"


def _marker(key: str) -> Path:
    return state_dir() / "exam-checks" / key


def _remember(key: str) -> None:
    """Leaves a mark that holds for other processes, and clears those that nobody can want any more."""
    with contextlib.suppress(OSError):
        marker = _marker(key)
        marker.parent.mkdir(parents=True, exist_ok=True)
        for other in marker.parent.iterdir():
            if time.time() - other.stat().st_mtime > _FORGOTTEN_S:
                other.unlink()
        marker.touch()  # its name says all
