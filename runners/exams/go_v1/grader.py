"""Grades go-v1, /15: three programs, each built, run, and judged by what it prints."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runners import textwork
from runners.exams.base import Grade, Item
from runners.exams.go.reading import REPLY_CHARS, marked, read_files
from runners.exams.go.report import head_lines, outcome_of, run_lines, shown
from runners.exams.programs import without_program
from runners.toolchains.go import Go

from .running import PROGRAMS, Tried, try_programs

if TYPE_CHECKING:
    from runners.exams.base import Reply, Task, Transcript
    from runners.exams.box import Box
    from runners.exams.go.reading import FilesRead

_BUILD_POINTS, _RUN_POINTS, _CORRECT_POINTS = 1.0, 1.0, 3.0


def grade(_task: Task, transcript: Transcript, box: Box) -> Grade:
    """The grade of an answer; see `Exam.grade`."""
    return _Grader().grade(transcript, box)


as_reply = marked
"""Specimens hand their files over as the prompt asks for them."""


@dataclass(frozen=True)
class _Grader:
    """/15: for each of three programs 1 for building, 1 for running, 3 for what it prints.

    `corrected` judges by the task's own words. `published` does as the report's evaluator did: it mends a missing
    closing brace, its text has a tie at places 9 to 12 of which one order counts, and of the files it looks at the
    numbers alone.
    """

    score_max: float = len(PROGRAMS) * (_BUILD_POINTS + _RUN_POINTS + _CORRECT_POINTS)
    scorings: tuple[str, ...] = ("corrected", "published")
    go: Go = field(default_factory=Go)

    def grade(self, transcript: Transcript, box: Box) -> Grade:
        reply = transcript.reply
        note = ""
        if len(reply.text) > REPLY_CHARS:
            note = f"only the first {REPLY_CHARS:,} of {len(reply.text):,} characters were looked at"
        try:
            found = textwork.run(read_files, reply.text[:REPLY_CHARS], PROGRAMS, "package main")
        except textwork.TextLimitError as error:
            found = {"files": {}, "methods": dict.fromkeys(PROGRAMS, "unreadable"), "truncated": False}
            note = str(error)
        cut = reply.finish_reason == "length" or (found["truncated"] and reply.finish_reason is None)
        if not found["files"]:
            return self._without_programs(reply, found, note, cut=cut or (found["truncated"] and not note))
        toolchain = self.go.open(box.sandbox)
        texts = {name: text.encode("utf-8", "replace") for name, text in found["files"].items()}
        with ThreadPoolExecutor(2, thread_name_prefix="go-v1") as pool:
            tried = list(pool.map(lambda name: try_programs(name, texts.get(name), toolchain, box), PROGRAMS))
        items = tuple(item for scoring in self.scorings for each in tried for item in _items(each, scoring, found))
        scores = {s: sum(item.points for item in items if item.scoring == s) for s in self.scorings}
        outcomes = {
            scoring: outcome_of(
                full_marks=scores[scoring] >= self.score_max,
                cut_off=cut,
                all_built=all(each.built(scoring) for each in tried),
                runs=[each.run(scoring) for each in tried],
            )
            for scoring in self.scorings
        }
        methods = ", ".join(f"{name} as {how}" for name, how in found["methods"].items())
        about = (f"found: {methods}", note, f"built by {toolchain.version}, isolated by {box.isolation}")
        lines = head_lines(scores, outcomes, items, *about)
        return Grade(
            scores=scores,
            score_max=self.score_max,
            outcome=outcomes[self.scorings[0]],
            items=items,
            log="\n".join([*lines, *(line for each in tried for line in _log_lines(each, self.scorings))]) + "\n",
            extraction_method=_method_of(found),
            isolation=box.isolation,
            outcomes=outcomes,
        )

    def _without_programs(self, reply: Reply, found: FilesRead, note: str, *, cut: bool) -> Grade:
        items = (item for s in self.scorings for name in PROGRAMS for item in _items(Tried(name), s, found))
        return without_program(
            reply,
            scorings=self.scorings,
            score_max=self.score_max,
            method=_method_of(found),
            note=note,
            truncated=cut,
            items=tuple(items),
        )


def _method_of(found: FilesRead) -> str:
    """How the files were found; of several ways that of the first file that is there."""
    there = [found["methods"][name] for name in found["files"]]
    return (there or list(found["methods"].values()))[0]


def _items(tried: Tried, scoring: str, found: FilesRead) -> list[Item]:
    stem = f"{scoring}: {tried.name.removesuffix('.go')}"
    built, run = tried.built(scoring), tried.run(scoring)
    missing = tried.name not in found["files"]
    no_build = f"the reply holds no file {tried.name}" if missing else tried.build_note(scoring)
    ran = run is not None and run.status == "ok"
    no_run = "" if ran or run is None else _how(run.status, run.exit_code)
    points, why = tried.judged.get(scoring, (0, ""))

    def item(what: str, got: float, most: float, note: str) -> Item:
        return Item(f"{stem} {what}", got, most, got >= most, note, scoring)

    return [
        item("builds", _BUILD_POINTS if built else 0.0, _BUILD_POINTS, no_build),
        item("runs", _RUN_POINTS if ran else 0.0, _RUN_POINTS, no_run or ("" if ran else "it was not built")),
        item("is correct", float(points), _CORRECT_POINTS, why or ("" if built else "it was not built")),
    ]


def _how(status: str, exit_code: int | None) -> str:
    return f"ended with exit code {exit_code}" if exit_code is not None else f"ended by {status.replace('_', ' ')}"


def _log_lines(tried: Tried, scorings: tuple[str, ...]) -> list[str]:
    lines: list[str] = []
    if tried.complaints.strip():
        lines += ["", f"go build {tried.name}:", shown(tried.complaints)]
    runs = {id(run): (scoring, run) for scoring in scorings if (run := tried.run(scoring)) is not None}
    for scoring, run in runs.values():
        lines += run_lines(f"$ {tried.name.removesuffix('.go')} ({scoring})", run)
    return lines
