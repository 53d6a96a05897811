"""The exam go-v2: a metrics scraper in Go is to be made resilient; ten tests run what came of it, a point each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runners import textwork
from runners.exams.base import Grade, Item
from runners.exams.go.reading import REPLY_CHARS
from runners.exams.go.report import outcome_of
from runners.exams.programs import without_program

from .judging import TESTS, crash_of, judge
from .reading import read_reply
from .report import write_log
from .trying import try_program

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runners.exams.base import Reply, Task, Transcript
    from runners.exams.box import Box
    from runners.outcomes import Outcome

    from .reading import ReplyRead
    from .trying import Tried

LIMITS = {"time_limit", "memory_limit", "output_limit", "process_limit"}
_FENCED = "the markers stand inside a fence, which broke the report's build"


def grade(_task: Task, transcript: Transcript, box: Box) -> Grade:
    """The grade of an answer; see `Exam.grade`."""
    return _Grader().grade(transcript, box)


@dataclass(frozen=True)
class _Grader:
    """/10: a point for each of ten tests, by two scorings (`judging`)."""

    score_max: float = float(len(TESTS))
    scorings: tuple[str, ...] = ("corrected", "published")

    def grade(self, transcript: Transcript, box: Box) -> Grade:
        reply, sandbox = transcript.reply, box.sandbox
        notes = []
        if len(reply.text) > REPLY_CHARS:
            notes.append(f"only the first {REPLY_CHARS:,} of {len(reply.text):,} characters were looked at")
        try:
            found = textwork.run(read_reply, reply.text[:REPLY_CHARS])
        except textwork.TextLimitError as error:
            return self._without_program(reply, "unreadable", str(error))
        if found["code"] is None:
            return self._without_program(reply, found["method"], *notes, truncated=found["truncated"] and not notes)
        program = found["code"].encode("utf-8", "surrogatepass")
        tried = try_program(program, found["dodge"], sandbox, box.folder)
        if found["fenced_markers"]:
            notes.append(_FENCED)
        items = tuple(item for scoring in self.scorings for item in self._items(scoring, found, tried))
        scores = {scoring: sum(item.points for item in items if item.scoring == scoring) for scoring in self.scorings}
        outcomes = {scoring: self._outcome(scores[scoring], reply, found, tried) for scoring in self.scorings}
        return Grade(
            scores=scores,
            score_max=self.score_max,
            outcome=outcomes[self.scorings[0]],
            items=items,
            log=write_log(
                scores=scores,
                outcomes=outcomes,
                items=items,
                method=found["method"],
                notes=notes,
                tried=tried,
                isolation=sandbox.isolation,
            ),
            extraction_method=found["method"],
            isolation=sandbox.isolation,
            outcomes=outcomes,
        )

    def _items(self, scoring: str, found: ReplyRead, tried: Tried) -> list[Item]:
        """All ten, whatever happened: a test that could not be made is one that failed."""
        if tried.runs is None:
            reasons = dict.fromkeys(TESTS, "it does not build")
        elif scoring == "published" and found["fenced_markers"]:
            reasons = dict.fromkeys(TESTS, _FENCED)
        else:
            reasons = judge(tried.runs, scoring)
        return self._listed(scoring, reasons)

    def _listed(self, scoring: str, reasons: Mapping[str, str]) -> list[Item]:
        named = "" if scoring == self.scorings[0] else f"{scoring}: "
        return [
            Item(f"{named}{test}", 0.0 if reasons[test] else 1.0, 1.0, not reasons[test], reasons[test], scoring)
            for test in TESTS
        ]

    def _without_program(self, reply: Reply, method: str, note: str = "", *, truncated: bool = False) -> Grade:
        lost = dict.fromkeys(TESTS, "the reply holds no program")
        return without_program(
            reply,
            scorings=self.scorings,
            score_max=self.score_max,
            method=method,
            note=note,
            truncated=truncated,
            items=tuple(item for scoring in self.scorings for item in self._listed(scoring, lost)),
        )

    def _outcome(self, score: float, reply: Reply, found: ReplyRead, tried: Tried) -> Outcome:
        """What to call a score. How we end a program that is done says nothing; a crash or a limit does."""
        seen = tried.runs.seen.values() if tried.runs is not None else ()
        ends = [each.completed for each in seen if each.completed is not None]
        bad = [crash_of(each) != "" or each.completed.status in LIMITS for each in seen if each.completed is not None]
        return outcome_of(
            full_marks=score >= self.score_max,
            cut_off=reply.finish_reason == "length" or (found["truncated"] and reply.finish_reason is None),
            all_built=tried.runs is not None,
            runs=[end for end, is_bad in zip(ends, bad, strict=True) if is_bad],
        )
