"""Attempts folded to one line per model, quant, variant and exam: scores, memory and speed, and what they rest on."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import chain
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from results.bounded import mean_interval
from results.stats import Interval, pass_at, rate_interval, standard_deviation
from results.timings import Timings, most_in, texts_in, timings_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Row = dict[str, Any]
_Key = tuple[str, str, str, str]
_GROUP: Final = ("model", "variant", "exam", "quant")
_FIGURES: Final = (
    *(
        "job_id",
        "attempt",
        "final",
        "regrade_of",
        "reused_from",
        "taken_out",
        "task",
        "seed",
        "outcome",
        "outcome_class",
        "prompt_version",
        "grader_version",
        *("scoring", "score", "score_max"),
    ),
    *("exam_check", "file_bytes", "node", "load_s", "peak_ram_bytes", "peak_vram_bytes", "hardware_class"),
    *("device", "engine_settings", "foreign_cpu_share"),
    *("cold", "cached_tokens", "shared_with", "ttft_any_s", "ttft_answer_s", "prefill_tps"),
    *("decode_tps", "decode_tps_client", "decode_ceiling_tps", "above_ceiling"),
    *("cost", "currency", "deviations"),
)

SUMMARISED: Final = ("sweep", *_GROUP, *_FIGURES)
"""The columns that a summary is made from; texts, which are most of a run's bytes, are not among them."""

UNBUILT: Final = frozenset({"no_code", "compile_error", "tool_format", "refusal", "loop"})
"""Outcomes of a reply that holds no program that builds."""

PASS_AT: Final = (1, 3, 5, 10)
"""Numbers of draws that pass@k is told for."""

FEWEST_SCORES: Final = 3
"""Fewer scores than these allow nearly any mean: an interval would say no more than that."""

FEWEST_TASKS: Final = 5
"""From so many tasks on, an interval is given for tasks like these as well."""


class Score(NamedTuple):
    """The points of one job."""

    task: str
    seed: int
    points: float


@dataclass(frozen=True, slots=True)
class QuantSummary:
    """What a sweep found about one quant, in one variant, on one exam.

    Attributes:
        file_bytes: Size of the model file; None where no row says.
        jobs: Jobs that have ended, each counted once by its final attempt.
        open_jobs: Jobs with attempts on record and none final yet.
        infrastructure: Jobs that ended without a score, and are in no mean but `strict_mean`.
        budget: Jobs whose answer was cut off by a limit; scored, and in the means.
        retried: Attempts on record whose answers are not the ones that count.
        regraded: Jobs whose answer was graded again; their earlier grades are on record.
        reused: Jobs whose answer was taken from another run.
        score_max: Full marks; the highest where versions of the grader have several, and scores are on that scale.
        scores: Of the scored jobs, by task and seed: one each.
        mean: Over the scored jobs, in points.
        strict_mean: The same with infrastructure failures as 0.
        low, high: Range of the scores.
        interval: Of the mean, for more seeds of these tasks (results.bounded); None for fewer than FEWEST_SCORES.
        tasks_interval: The same for more tasks like these: of the means of the tasks, each a single draw, as a
            bootstrap over clusters would have it; None for fewer than FEWEST_TASKS.
        full_marks: Scored jobs with full marks; `full_marks_interval` is Wilson's, for their rate.
        built: Scored jobs whose program builds and gets a point: the outcome is none of UNBUILT, the reply was not cut
            off by a limit, and the score is above 0. `built_interval` is Wilson's, for their rate.
        pass_at: Share of tasks that one of k draws solves in full, by k (`results.stats.pass_at`); those k of which
            every task has as many draws.
        coverage: Scored jobs as a share of those that ended.
        outcomes: Ended jobs by outcome.
        load_s: Median over the loads seen.
        costs: What was spent, by currency: all attempts on record, those that failed too; answers of other runs and
            regrades cost nothing here.
        deviations: What its final attempts have in that column, JSON, each once.
        uncosted: Attempts whose cost is not known although others of the cell have one.
        checks: Node, `exam_check`, and how many scored jobs have them; no node for those that were graded again.
    """

    model: str
    quant: str
    variant: str
    exam: str
    prompt_versions: tuple[str, ...]
    grader_versions: tuple[str, ...]
    scorings: tuple[str, ...]
    score_max: float | None
    file_bytes: int | None
    jobs: int
    open_jobs: int
    infrastructure: int
    budget: int
    retried: int
    regraded: int
    scores: tuple[Score, ...]
    mean: float | None
    strict_mean: float | None
    low: float | None
    high: float | None
    sd: float | None
    interval: Interval | None
    full_marks: int
    full_marks_interval: Interval | None
    built: int
    built_interval: Interval | None
    coverage: float | None
    outcomes: Mapping[str, int]
    load_s: float | None
    peak_ram_bytes: int | None
    peak_vram_bytes: int | None
    timings: Timings
    reused: int = 0
    costs: Mapping[str, float] = field(default_factory=dict)
    uncosted: int = 0
    deviations: tuple[str, ...] = ()
    tasks_interval: Interval | None = None
    pass_at: Mapping[int, float] = field(default_factory=dict)
    checks: tuple[tuple[str, str, int], ...] = ()

    def points_by_answer(self) -> dict[tuple[str, int], float]:
        """The points, by task and seed."""
        return {(score.task, score.seed): score.points for score in self.scores}


def summarise(table: Any, order: Sequence[tuple[str, str]] = ()) -> list[QuantSummary]:
    """One summary per model, quant, variant and exam, largest file first.

    Attempts of jobs that were taken out of the sweep are in none.

    Args:
        table: A `pyarrow.Table` of attempts (results.store), of a finished or a running sweep.
        order: Models with their variants, as they are to come; the others follow, in the order in which they first ran.
    """
    wanted = {place: number for number, place in enumerate(order)}
    ran: dict[tuple[str, str, str], int] = {}
    summaries = []
    for key, rows in _groups(_counted(table)):
        ran.setdefault(key[:3], len(ran))
        summaries.append(_summary(key, rows))

    def place(s: QuantSummary) -> tuple[int, int, int, str]:
        number = wanted.get((s.model, s.variant), len(wanted))
        return number, ran[s.model, s.variant, s.exam], -(s.file_bytes or 0), s.quant

    return sorted(summaries, key=place)


def _counted(table: Any) -> Any:
    """`table` without what was taken out of the sweep."""
    import pyarrow.compute as pc

    return table.filter(pc.invert(pc.fill_null(table["taken_out"], fill_value=False)))


def _groups(table: Any) -> Iterator[tuple[_Key, list[Row]]]:
    """The rows of each model, variant, exam and quant, in the order in which these first ran; one group at a time.

    As dicts, the figures of all rows of a large run at once would take gigabytes.
    """
    import pyarrow as pa

    places: dict[_Key, list[int]] = defaultdict(list)
    for place, key in enumerate(zip(*(table[name].to_pylist() for name in _GROUP), strict=True)):
        places[key].append(place)
    order = pa.array(chain.from_iterable(places.values()), pa.int64())
    figures = table.select(list(_FIGURES)).take(order).combine_chunks()
    begin = 0
    for key, numbers in places.items():
        yield key, figures.slice(begin, len(numbers)).to_pylist()
        begin += len(numbers)


def finals_of(rows: Iterable[Row]) -> list[Row]:
    """The attempt that stands for each job that has ended; one per job even where two writers made two."""
    by_job: dict[str, Row] = {}
    for row in rows:
        if row["final"]:
            held = by_job.get(row["job_id"])
            if held is None or (held["outcome_class"] == "infrastructure" != row["outcome_class"]):
                by_job[row["job_id"]] = row
    return list(by_job.values())


def _summary(key: _Key, rows: Sequence[Row]) -> QuantSummary:
    model, variant, exam, quant = key
    finals = finals_of(rows)
    scored = [row for row in finals if row["score"] is not None]
    shown = finals or rows
    score_max = max((row["score_max"] for row in shown if row["score_max"] is not None), default=None)
    scores = sorted(Score(row["task"] or "main", int(row["seed"]), _points(row, score_max)) for row in scored)
    points = [score.points for score in scores]
    standing = {(row["job_id"], row["regrade_of"] or row["attempt"]) for row in finals}
    answers = {(row["job_id"], row["attempt"]) for row in rows if row["regrade_of"] is None}
    full = sum(row["score"] >= row["score_max"] for row in scored)
    built = sum(map(_is_built, scored))
    loads = {(row["node"], row["load_s"]) for row in rows if row["load_s"] is not None}
    return QuantSummary(
        model=model,
        quant=quant,
        variant=variant,
        exam=exam,
        prompt_versions=texts_in(shown, "prompt_version"),
        grader_versions=texts_in(shown, "grader_version"),
        scorings=texts_in(shown, "scoring"),
        score_max=score_max,
        file_bytes=most_in(rows, "file_bytes"),
        jobs=len(finals),
        open_jobs=len({row["job_id"] for row in rows}) - len(finals),
        infrastructure=sum(row["outcome_class"] == "infrastructure" for row in finals),
        budget=sum(row["outcome_class"] == "budget" for row in finals),
        retried=len(answers - standing),
        regraded=sum(row["regrade_of"] is not None for row in finals),
        scores=tuple(scores),
        mean=fmean(points) if points else None,
        strict_mean=sum(points) / len(finals) if finals else None,
        low=min(points, default=None),
        high=max(points, default=None),
        sd=standard_deviation(points),
        interval=None if score_max is None or len(points) < FEWEST_SCORES else mean_interval(points, 0.0, score_max),
        tasks_interval=None if score_max is None else _over_tasks(scores, score_max),
        full_marks=full,
        full_marks_interval=rate_interval(full, len(points)),
        built=built,
        built_interval=rate_interval(built, len(points)),
        pass_at=_pass_at(scores, score_max),
        coverage=len(points) / len(finals) if finals else None,
        outcomes=dict(Counter(row["outcome"] for row in finals).most_common()),
        load_s=median(load for _, load in loads) if loads else None,
        peak_ram_bytes=most_in(rows, "peak_ram_bytes"),
        peak_vram_bytes=most_in(rows, "peak_vram_bytes"),
        timings=timings_of(finals),
        reused=sum(row["reused_from"] is not None for row in finals),
        costs=_costs(asked := [row for row in rows if row["regrade_of"] is None and row["reused_from"] is None]),
        deviations=tuple(dict.fromkeys(row["deviations"] for row in finals if row["deviations"])),
        uncosted=sum(row["currency"] is not None and row["cost"] is None for row in asked),
        checks=_checks(scored),
    )


def _points(row: Row, score_max: float | None) -> float:
    """The score of a row, on the scale of its cell: grades by several versions of a grader may have several."""
    score = float(row["score"])
    own = row["score_max"]
    return score if not own or not score_max or own == score_max else score / own * score_max


def _costs(rows: Sequence[Row]) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for row in rows:
        if row["cost"] is not None:
            found[row["currency"] or "?"] += row["cost"]
    return dict(found)


def _checks(scored: Iterable[Row]) -> tuple[tuple[str, str, int], ...]:
    found = Counter(("" if r["regrade_of"] else r["node"], r["exam_check"]) for r in scored if r["exam_check"])
    return tuple((*key, number) for key, number in found.items())


def _is_built(row: Row) -> bool:
    """Whether the program of a scored reply builds and gets a point.

    Points alone do not say so: some exams give them for what a text holds, or take a reply that was cut off as it is.
    """
    return row["outcome_class"] == "model" and row["outcome"] not in UNBUILT and row["score"] > 0


def _by_task(scores: Sequence[Score]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for score in scores:
        found[score.task].append(score.points)
    return found


def _over_tasks(scores: Sequence[Score], score_max: float) -> Interval | None:
    tasks = _by_task(scores)
    return (
        None if len(tasks) < FEWEST_TASKS else mean_interval([fmean(each) for each in tasks.values()], 0.0, score_max)
    )


def _pass_at(scores: Sequence[Score], score_max: float | None) -> dict[int, float]:
    """pass@k of each task, averaged over the tasks."""
    if score_max is None:
        return {}
    tasks = [(sum(points >= score_max for points in each), len(each)) for each in _by_task(scores).values()]
    found = {}
    for k in PASS_AT:
        each = [pass_at(k, passed, draws) for passed, draws in tasks]
        known = [share for share in each if share is not None]
        if known and len(known) == len(each):
            found[k] = fmean(known)
    return found
