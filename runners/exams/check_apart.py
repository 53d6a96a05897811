"""The proof of a user's grader.py in a process of its own: a grader that ends its process is found, and ends no other.

The child appends what it finds to a file, a line of JSON each, and opens it anew for each line: a grader may close
every descriptor of its process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runners.errors import RunnersError
from runners.exams.check import CheckReport, Finding, check_exam, find_exam
from runners.outcomes import Outcome
from runners.sandbox import open_sandbox
from runners.told import told

if TYPE_CHECKING:
    from runners.exams.base import Exam

_TO_END_S: Final = 10.0
"""How long a child that is asked to stop has for its own clearing up."""
_LOOK_S: Final = 1.0


def check_apart(name: str) -> CheckReport:
    """As `check_exam` of the exam in a folder; a grader that ends its process is wrong, and the report says how.

    Raises:
        RunnersError: as `check_exam`.
    """
    exam = find_exam(name)
    sandbox = open_sandbox()
    with tempfile.TemporaryDirectory(prefix="quantsweep-check-") as folder:
        said = Path(folder) / "said.jsonl"
        ending = _run(name, said)
        lines = _read(said)
    for line in lines:
        if "error" in line:
            raise RunnersError(*line["error"])
    findings = [_finding(line["finding"]) for line in lines if "finding" in line]
    if not any("done" in line for line in lines):
        problem = next((line["crash"] for line in lines if "crash" in line), "") or (
            f"it ended its process ({ending}) after {len(findings)} of the answers were graded; in a sweep that would "
            "end quantsweep's own process on a node"
        )
        findings.append(Finding("grader.py", "process", {}, Outcome.GRADER_CRASH.value, problem))
    return _report(exam, sandbox.isolation, findings)


def _finding(fields: dict[str, Any]) -> Finding:
    return Finding(**{**fields, "items": tuple(fields["items"]), "lost": tuple(fields["lost"])})


def _report(exam: Exam, isolation: str, findings: list[Finding]) -> CheckReport:
    return CheckReport(exam.name, exam.grader_version, exam.score_max, isolation, tuple(findings))


def _run(name: str, said: Path) -> str:
    """How the child ended, in words."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "runners.exams.check_apart", name, str(said), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stderr=2,
        stdout=2,  # what a grader prints is no part of the report
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,  # Ctrl-C reaches it once, by the parent
    )
    try:
        code = child.wait()
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
            try:
                child.wait(_TO_END_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _read(said: Path) -> list[dict[str, Any]]:
    """What the child wrote; a last line that it did not finish is none."""
    text = said.read_text(encoding="utf-8") if said.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


# --- in the child -------------------------------------------------------------------------------------------------


def _main(name: str, said: Path, parent: int) -> None:
    def say(line: dict[str, Any]) -> None:
        with said.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        check_exam(name, open_sandbox(), on_finding=lambda finding: say({"finding": asdict(finding)}))
        say({"done": True})
    except RunnersError as error:
        say({"error": [error.message, error.hint]})
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BaseException as error:  # of a grader, which may raise anything
        say({"crash": f"the grader failed: {told(error)}"})


def _end_with(parent: int) -> None:
    """Ends this process where its parent was killed."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    with contextlib.suppress(OSError):
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(_TO_END_S)
    os._exit(1)


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
