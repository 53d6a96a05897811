"""The exam go-v3, /13: a relay, built with the race detector and judged by what it asks of its source and sink."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runners import textwork
from runners.exams.base import Grade, Item
from runners.exams.go.building import build
from runners.exams.go.reading import REPLY_CHARS, marked, read_files
from runners.exams.go.report import head_lines, outcome_of, run_lines, shown
from runners.outcomes import Outcome
from runners.sandbox.python import python_runtime
from runners.toolchains.go import Go

from .running import Setting
from .scenarios import Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runners.exams.base import Task, Transcript
    from runners.exams.box import Box

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
GUARD_S: Final = 6.0
"""How long anything is waited for that takes a fraction of a second."""

# With these a program keeps out of the race detector's sight; no answer to this task needs them.
_HIDES: Final = (
    *("//go:norace", "//go:linkname", "GORACE"),
    *('"os/exec"', "syscall.Exec", "ForkExec", "StartProcess", "SYS_EXECVE"),  # it might start itself without it
)


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
        if built.program is None or hides:
            verdict = Verdict(dict.fromkeys(ITEMS, hides or f"it does not build: {built.note}"))
        else:
            work = box.folder / "runs"
            work.mkdir()
            python = python_runtime(box.sandbox)
            verdict = judge(Setting(box.sandbox, python, built.program, work, self.guard_s))
        results = {item: verdict.results[item] for item in ITEMS}
        passed = sum(not why for why in results.values())
        outcome = outcome_of(
            full_marks=passed == len(ITEMS),
            cut_off=cut,
            all_built=built.program is not None and not hides,
            runs=verdict.ends,
        )
        if outcome is Outcome.WRONG and verdict.raced:
            outcome = Outcome.RUNTIME_ERROR
        about = (f"{FILE} found as {method}", note, f"built by {toolchain.version}, isolated by {box.isolation}")
        lines = [line for line in about if line]
        said = built.done.stdout + built.done.stderr
        lines += ["", "go build:", shown(said)] if built.program is None else []
        lines += [f"data races: {', '.join(verdict.raced)}"] if verdict.raced else []
        lines += run_lines("the first run that ended badly", verdict.ends[0]) if verdict.ends else []
        return self._grade(results, outcome, lines, method, box.isolation)

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
