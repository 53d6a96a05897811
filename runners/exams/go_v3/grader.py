"""The exam go-v3, /13: a relay, built with the race detector and judged by what it asks of its source and sink."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runners import textwork
from runners.errors import RunnersError
from runners.exams.base import Grade, Item
from runners.exams.go.building import build
from runners.exams.go.reading import REPLY_CHARS, marked, read_files
from runners.exams.go.report import head_lines, outcome_of, run_lines, shown
from runners.outcomes import Outcome
from runners.sandbox.base import BOX, MIB, Limits
from runners.sandbox.python import python_runtime
from runners.toolchains.go import Go

from .results import read_results

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runners.exams.base import Task, Transcript
    from runners.exams.box import Box
    from runners.sandbox.base import Completed

FILE: Final = "relay.go"
ITEMS: Final = (
    "ValidatesArguments",
    "ReadsDuringOutage",
    "CancelsPromptly",
    "NoLossAcrossTransitions",
    "ShortOutage",
    "RepeatedOutages",
    "LongOutageBounded",
    "LongOutageFlushed",
    "LongOutageSampled",
    "FlakySource",
    "HungRead",
    "HungWrite",
    "ReadsDespiteHungWrite",
)
GUARD_S: Final = 8.0
"""How long anything is waited for; all scenarios together take some three seconds."""

_LIMITS: Final = Limits(
    wall_s=180.0,
    cpu_s=60.0,
    memory_bytes=1024 * MIB,
    output_bytes=1 * MIB,
    file_bytes=64 * MIB,
    processes=128,
    files=500,
)
_ENVIRONMENT: Final = {"HOME": str(BOX), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"}
# The judge's modules as they are imported there, and nothing else of ours.
_JUDGE: Final = BOX / "judge"
_PACKAGE: Final = ("runners", "exams", "go_v3")
_JUDGE_FILES: Final = ("inside.py", "subject.py")
_START: Final = f"import sys; sys.path.insert(0, {str(_JUDGE)!r}); from {'.'.join(_PACKAGE)}.inside import main; main()"
# With these a program keeps out of the race detector's sight; no answer to this task needs them.
_HIDES: Final = ("//go:norace", "//go:linkname")


class HarnessError(RunnersError):
    """What judges the relay failed itself: no score, and nobody's zero."""

    outcome = "grader_crash"


def grade(_task: Task, transcript: Transcript, box: Box) -> Grade:
    """The grade of an answer; see `Exam.grade`."""
    return _Grader().grade(transcript, box)


def as_reply(files: Mapping[str, str], /) -> str:
    """A reply that hands a relay over as the prompt asks for it, whatever its files are called."""
    return marked({FILE: "\n".join(files.values())})


@dataclass(frozen=True)
class _Grader:
    """/13: a point for each item that the relay passes."""

    score_max: float = float(len(ITEMS))
    scorings: tuple[str, ...] = ("score",)
    go: Go = field(default_factory=lambda: Go(race=True))
    guard_s: float = GUARD_S

    def grade(self, transcript: Transcript, box: Box) -> Grade:
        reply = transcript.reply
        note = ""
        if len(reply.text) > REPLY_CHARS:
            note = f"only the first {REPLY_CHARS:,} of {len(reply.text):,} characters were looked at"
        try:
            found = textwork.run(read_files, reply.text[:REPLY_CHARS], [FILE], "package relay")
        except textwork.TextLimitError as error:
            found = {"files": {}, "methods": {FILE: "unreadable"}, "truncated": False}
            note = str(error)
        method = found["methods"][FILE]
        cut = reply.finish_reason == "length" or (found["truncated"] and reply.finish_reason is None)
        source = found["files"].get(FILE)
        if source is None:
            outcome = Outcome.MAX_TOKENS if cut or (found["truncated"] and not note) else Outcome.NO_CODE
            why = f"{method}: {note}" if note else method
            nothing = dict.fromkeys(ITEMS, "the reply holds no package relay")
            return self._grade(nothing, outcome, [f"no package relay in the reply ({why})"], method, "")
        toolchain = self.go.open(box.sandbox)
        texts = {
            "main.go": _text("main.go.txt").encode(),
            "relay/types.go": _text("types.go.txt").encode(),
            "relay/relay.go": source.encode("utf-8", "replace"),
        }
        built = build(toolchain, box.sandbox, box.folder / "build", texts, ["build", *self.go.flags()])
        hides = _hides(source)
        results: dict[str, str] = {}
        ran: Completed | None = None
        if built.program is None or hides:
            results = dict.fromkeys(ITEMS, hides or f"it does not build: {built.note}")
        else:
            ran, results = self._judge(built.program, box)
        passed = sum(not why for why in results.values())
        outcome = outcome_of(
            full_marks=passed == len(ITEMS),
            cut_off=cut,
            all_built=built.program is not None and not hides,
            runs=[ran],
        )
        if outcome is Outcome.WRONG and any("process ended" in why or "data race" in why for why in results.values()):
            outcome = Outcome.RUNTIME_ERROR
        about = (f"{FILE} found as {method}", note, f"built by {toolchain.version}, isolated by {box.isolation}")
        lines = [line for line in about if line]
        said = built.done.stdout + built.done.stderr
        lines += ["", "go build:", shown(said)] if built.program is None else []
        lines += run_lines("the scenarios", ran) if ran is not None and ran.status != "ok" else []
        return self._grade(results, outcome, lines, method, box.isolation)

    def _judge(self, program: Path, box: Box) -> tuple[Completed, dict[str, str]]:
        """Plays the scenarios to the relay: how that ended, and why each item is not passed.

        Raises:
            HarnessError: What judges it failed.
            SandboxFailed: The sandbox could not be started.
        """
        runtime = python_runtime(box.sandbox)
        word = secrets.token_hex(16)
        work = box.folder / "work"
        work.mkdir()
        judge = [(Path(__file__).with_name(name), _JUDGE.joinpath(*_PACKAGE, name)) for name in _JUDGE_FILES]
        placed = (*judge, (program, BOX / "relay"))
        ran = box.sandbox.run(
            [runtime.executable, "-I", "-S", "-B", "-c", _START, str(BOX / "relay"), str(self.guard_s)],
            workdir=work,
            stdin=f"{word}\n".encode(),
            env=_ENVIRONMENT,
            limits=_LIMITS,
            view=replace(runtime.view, placed=placed),
        )
        if ran.exit_code == 1 and b"Traceback (most recent call last)" in ran.stderr:
            last = ran.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2][:300]
            raise HarnessError(f"what judges the relay failed: {last}")
        try:
            found = textwork.run(read_results, ran.stdout.decode("utf-8", "replace"), word, ITEMS)
        except textwork.TextLimitError:
            found = {}
        return ran, {item: found.get(item, f"the scenarios came to no end: {ran.status}") for item in ITEMS}

    def _grade(self, results: dict[str, str], outcome: Outcome, lines: list[str], method: str, isolation: str) -> Grade:
        items = tuple(Item(name, 0.0 if why else 1.0, 1.0, not why, why) for name, why in results.items())
        scores = {self.scorings[0]: sum(item.points for item in items)}
        outcomes = dict.fromkeys(self.scorings, outcome)
        head = head_lines(scores, outcomes, items)
        return Grade(
            scores=scores,
            score_max=self.score_max,
            outcome=outcome,
            items=items,
            log="\n".join([*head, "", *lines]).strip() + "\n",
            extraction_method=method,
            isolation=isolation,
            outcomes=outcomes,
        )


def _text(name: str) -> str:
    return Path(__file__).with_name("files").joinpath(name).read_text(encoding="utf-8")


def _hides(source: str) -> str:
    """Why a source is not judged: it would keep the race detector from seeing it. Empty where it would not."""
    if used := [word for word in _HIDES if word in source]:
        return f"{used[0]} is not allowed: the package is tested with the race detector"
    lines = (line.strip() for line in source.splitlines())
    return "cgo is not allowed" if any(line in {'import "C"', '"C"'} for line in lines) else ""
