"""Grades the programs that nobody tuned the exams' graders to, and prints one confusion table.

    python -m tests.bench.bench_confusion                       every set, one exam after the other
    python -m tests.bench.bench_confusion --exam go-v2          the programs of tests/runners/exams/go_v2_programs
    python -m tests.bench.bench_confusion --exam go-v2 --only ring batch            those whose name begins so
    python -m tests.bench.bench_confusion --exam todo --only menu --times 20 --load 4      beside 4 busy processes

Ends with 1 where a correct program is refused, a broken one gets full marks or keeps an item that it has to lose, one
of a known score gets another, or the same program gets two outcomes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from runners.errors import RunnersError
from runners.exams import get_exam
from runners.sandbox import open_sandbox
from tests.bench.confusion import Graded, busy, grade, programs, sets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runners.exams.base import Exam
    from runners.sandbox import Sandbox


def main() -> int:
    """Prints a line for each grading, then the sums."""
    given = _arguments()
    try:
        sandbox = open_sandbox(given.sandbox)
        return max([_one_exam(get_exam(name), sandbox, given) for name in given.exam or sets()])
    except RunnersError as error:
        print(f"{error.message}; {error.hint}" if error.hint else error.message, file=sys.stderr)
        return 2


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--exam", action="append", choices=sets(), help="may be given several times; all sets if not")
    parser.add_argument("--only", nargs="*", default=[], metavar="PREFIX", help="programs whose name begins so")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="gradings of each program")
    parser.add_argument("--load", type=int, default=0, metavar="K", help="busy processes beside them")
    parser.add_argument("--side-by-side", type=int, default=1, metavar="N", help="gradings at once")
    parser.add_argument("--sandbox", metavar="KIND", help="bubblewrap or namespaces; the first that works if not given")
    return parser.parse_args()


def _one_exam(exam: Exam, sandbox: Sandbox, given: argparse.Namespace) -> int:
    chosen = programs(exam.name, given.only)
    if not chosen:
        print(f"no program of {exam.name} has a name that begins so")
        return 2
    print(f"{exam.name} (grader {exam.grader_version}), isolated by {sandbox.isolation}")
    print(_row("", "kind", "program", "expected", exam.scorings, "s", "lost"))
    done: list[Graded] = []
    with busy(given.load), ThreadPoolExecutor(given.side_by_side) as pool:
        for each in pool.map(lambda specimen: grade(exam, specimen, sandbox), chosen * given.times):
            done.append(each)
            print(_line(each), flush=True)
    return _sums(done)


def _line(graded: Graded) -> str:
    scores = [f"{graded.grade.scores[scoring]:.1f}" for scoring in graded.exam.scorings]
    said = graded.wrong or ", ".join(name.partition(": ")[2] or name for name in graded.lost)
    mark = "WRONG" if graded.wrong else "ok"
    return _row(mark, graded.kind, graded.specimen.name, graded.expected, scores, f"{graded.seconds:.1f}", said)


def _row(mark: str, kind: str, name: str, expected: str, scores: Sequence[str], seconds: str, said: str) -> str:
    shown = " ".join(f"{score:>10}" for score in scores)
    return f"{mark:<6}{kind:<8}{name:<36}{expected:>14}  {shown}{seconds:>7}  {said}"


def _sums(done: list[Graded]) -> int:
    """Prints the sums over programs, not over gradings; 1 where something is wrong."""
    by_name: dict[str, list[Graded]] = {}
    for each in done:
        by_name.setdefault(each.specimen.name, []).append(each)

    def count(kind: str, what: str) -> str:
        of = [found for found in by_name.values() if found[0].kind == kind]
        bad = sum(any(each.in_full if kind == "broken" else each.wrong for each in found) for found in of)
        return f"{kind} {what}: {bad} of {len(of)}" if of else ""

    kinds = [
        count("correct", "refused"),
        count("broken", "passed in full"),
        count("known", "with another score"),
        count("cheat", "that gain"),
    ]
    print("; ".join(filter(None, kinds)))
    wrong = sorted({each.specimen.name for each in done if each.wrong})
    several = sorted(name for name, found in by_name.items() if len({each.passed for each in found}) > 1)
    print(f"graded wrongly: {', '.join(wrong) or 'none'}; more than one outcome: {', '.join(several) or 'none'}")
    seconds = [each.seconds for each in done]
    print(
        f"{len(done)} gradings of {min(seconds):.1f} to {max(seconds):.1f} s, median {statistics.median(seconds):.1f} s"
        f" (load average {os.getloadavg()[0]:.1f})"
    )
    return int(bool(wrong or several))


if __name__ == "__main__":
    sys.exit(main())
