"""Run or resume a sweep: the one function behind `quantsweep run`, usable without the command line."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cluster import check_address, connect
from orchestrator.errors import RunFolderError
from orchestrator.exam_folders import exams_of_run
from orchestrator.expand import expand
from orchestrator.growth import grown, what_clashes
from orchestrator.journal import DAMAGED, Journal, read_journal
from orchestrator.kept_plan import read_earlier_plans, read_old_spec, read_plan
from orchestrator.lost_plan import put_back
from orchestrator.misfits import by_name
from orchestrator.needs import needs_of
from orchestrator.newcomers import newcomers
from orchestrator.plan import Limits, Plan, spec_digest
from orchestrator.progress import watch
from orchestrator.restore import CommittedAttempt
from orchestrator.reuse import reuse as take_over
from orchestrator.rundir import RunDir
from orchestrator.seeding import seeding_of, share_of
from orchestrator.spec import SweepSpec, read_spec
from orchestrator.state import SweepState
from orchestrator.terminal import Printer, stderr
from profiles.homes import expanded
from results.figures import count
from results.seed_notes import rule_text
from results.store import RunStore, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from orchestrator.growth import Growth
    from profiles.types import NodeProfile
    from runners.exams.folder.exam import FolderExam
    from runners.work import Cell

SWEEPS = Path(__file__).parent / "sweeps"
"""Sweeps that ship with quantsweep, one TOML file each."""


@dataclass(frozen=True, slots=True)
class SpecSource:
    """A spec with its text, what errors call it, and the folder that relative paths in it count from."""

    spec: SweepSpec
    text: str
    file: str
    base_dir: Path


@dataclass(slots=True)
class SweepResult:
    """How a run ended.

    `unplaced` and `left_out` map a cell's label to why no node could serve it; the latter is too big for all nodes, and
    nobody named it: its jobs are not among `jobs`.
    """

    folder: Path
    jobs: int
    done: int
    failed: int
    interrupted: bool = False
    trouble: Exception | None = None
    unplaced: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Every job has its final row."""
        return self.done == self.jobs


def built_in_sweeps() -> list[str]:
    """The names of the sweeps that ship with quantsweep."""
    return sorted(path.stem for path in SWEEPS.glob("*.toml"))


def open_spec(text: str) -> SpecSource:
    """The spec that `text` names: a file, or a built-in sweep.

    Raises:
        SpecError: it is not valid.
        RunFolderError: there is neither a file nor a built-in sweep of that name.
    """
    path = expanded(text)
    built_in = SWEEPS / f"{text}.toml"
    if path.is_file():
        spec, content = read_spec(path)
        return SpecSource(spec, content, str(path), path.absolute().parent)
    if text in built_in_sweeps():
        spec, content = read_spec(built_in)
        return SpecSource(spec, content, f"{text} (built in)", Path.cwd())
    from difflib import get_close_matches

    known = built_in_sweeps()
    close = get_close_matches(text, known, n=1)
    what = f"{path} is a folder" if path.is_dir() else f"there is no file {text}"
    raise RunFolderError(
        f"{what}, and no built-in sweep of that name",
        hint=f"Did you mean {close[0]!r}?" if close else f"Built in: {', '.join(known)}.",
    )


def machines_at(address: str, source: SpecSource) -> list[NodeProfile]:
    """The nodes of the cluster at `address`, asked for the engine programs that the spec names.

    Raises:
        ClusterError: it cannot be reached or must not be used.
    """
    from orchestrator.cluster import probe_cluster
    from orchestrator.here import programs_named

    profiles, _ = probe_cluster(address, (), programs_named(source.spec, source.base_dir))
    return profiles


def open_plan(
    source: SpecSource, folder: RunDir, *, address: str | None, out: Printer
) -> tuple[Plan, str, Growth | None]:
    """The plan and run id of `folder`: made now for a new run, read for one that was begun, grown where the spec has.

    `address` is that of the cluster which is to run it, None for this machine.

    Raises:
        RunFolderError: rows of this spec could not be compared with those in the folder; the message says what differs.
        SpecError: the plan cannot be made.
    """
    digest = spec_digest(source.spec)

    def planned(earlier: Iterable[Cell] = ()) -> Plan:
        return expand(
            source.spec,
            file=source.file,
            text=source.text,
            base_dir=source.base_dir,
            local=address is None,
            status=lambda text: out.say(f"{text} ..."),
            machines=None if address is None else partial(machines_at, address, source),
            earlier=earlier,
        )

    def written(plan: Plan) -> dict[str, str]:
        texts = {"spec_text": source.text, "plan_json": plan.to_json()}
        return {**texts, "spec_digest": digest, "version": version("quantsweep")}

    if not folder.exists():
        plan = planned()
        return plan, folder.begin(**written(plan)), None
    identity = folder.read_identity()
    folder.settle()
    try:
        plan = read_plan(folder)
    except RunFolderError as lost:
        if identity["spec_digest"] != digest:
            raise RunFolderError(
                lost.message,
                hint="Give the same command with the spec as it was, which makes the plan anew (its text is in "
                f"{folder.spec}), and then the changed one.",
            ) from None
        plan = planned()
        put_back(plan, folder, identity)
        out.say(f"{lost.message}; it was made anew, and is the same by its jobs and rows")
    if identity["spec_digest"] == digest:
        limits = Limits(**source.spec.limits.model_dump())
        warnings = (*plan.warnings, *newcomers(source.spec, plan, source.base_dir, folder))
        plan = replace(plan, limits=limits, overlap_grading=source.spec.overlap_grading, warnings=warnings)
        return plan, identity["run_id"], None
    old = read_old_spec(folder)
    growth = grown(old, source.spec, plan, planned(plan.cells))
    lines = what_clashes(growth.plan, [*read_earlier_plans(folder), plan])
    if lines:
        raise RunFolderError(
            f"{folder.root}: rows of this spec cannot stand beside those of this run. What differs:",
            details=lines[:8] + ([f"... and {len(lines) - 8} more"] if len(lines) > 8 else []),
            hint="Give another folder with --out DIR, or what differs a name of its own (a model, a variant).",
        )
    folder.grow(**written(growth.plan))
    return growth.plan, identity["run_id"], growth


def restore_state(
    plan: Plan,
    store: RunStore,
    folder: RunDir,
    *,
    retry_failed: bool = False,
    out: Printer | None = None,
    exams: Mapping[str, FolderExam] | None = None,
) -> SweepState:
    """The state that the store and the journal of an earlier start add up to.

    With `retry_failed` the jobs whose final row is an infrastructure failure count as not run, and all failures are
    forgotten. What could not be read of the journal is said to `out`. `exams` has those that are not ours.
    """
    needs = needs_of(plan.scoring, exams)
    state = SweepState(
        [(cell.cell_id, cell.model.file_bytes or 0) for cell in plan.cells],
        [(job.job_id, job.cell_id) for job in plan.jobs],
        retries=plan.limits.retries,
        needs={job.job_id: needed for job in plan.jobs if (needed := needs[job.exam])},
        seeding=seeding_of(plan),
    )
    rows = (
        CommittedAttempt(
            row.job_id,
            row.attempt,
            final=row.final,
            outcome_class=row.outcome_class,
            hostname=row.node or "",
            place_id=row.device or "",
            hardware_class=row.hardware_class,
            share=share_of(row.score, row.score_max),
        )
        for row in store.attempts()
    )
    damaged: list[int] = []

    def lines() -> Iterator[Mapping[str, Any]]:
        for line in read_journal(folder.journal):
            if line["event"] == DAMAGED:
                damaged.append(line["line"])
            yield line

    state.restore(rows, lines(), forgive=retry_failed)
    if damaged and out is not None:
        numbers = ", ".join(map(str, damaged[:5])) + (", ..." if len(damaged) > 5 else "")
        out.say(
            f"warning: {folder.journal}: {len(damaged)} of its lines cannot be read and are passed over ({numbers}): "
            "what was committed is kept, and attempt numbers that they may have given out are not used"
        )
    return state


def run_sweep(
    source: SpecSource,
    *,
    out_dir: Path,
    address: str | None = None,
    retry_failed: bool = False,
    reuse: Sequence[Path] = (),
    out: Printer | None = None,
) -> SweepResult:
    """Runs what `out_dir` does not have yet of the sweep, and returns how it ended.

    Args:
        source: the spec.
        out_dir: the run folder; made if it is not there, resumed if it is.
        address: of a Ray cluster; None starts one on this machine.
        retry_failed: also run again what the infrastructure failed, with all its tries.
        reuse: folders of other runs, whose rows of equal jobs are taken.
        out: where progress is written; standard error by default.

    Raises:
        SweepError, StoreError, QuantsError, RunnersError: nothing could be run, with a sentence why.
    """
    out = out or stderr()
    check_address(address)
    folder = RunDir(out_dir)
    made = folder.create()
    with folder.locked(), ExitStack() as held:
        held.callback(folder.discard, made)
        plan, run_id, growth = open_plan(source, folder, address=address, out=out)
        for warning in plan.warnings:
            out.say(f"warning: {warning}")
        exams = exams_of_run(plan, folder, out)
        store = held.enter_context(RunStore(folder.root))
        for torn in store.quarantined:
            out.say(f"warning: {torn}")
        store.count_only({job.job_id for job in plan.jobs})
        if growth is not None:
            out.say(*growth.said(store.finals().keys()))
        if reuse:
            take_over(reuse, plan, store, folder, out, exams=exams)
        state = restore_state(plan, store, folder, retry_failed=retry_failed, out=out, exams=exams)
        done_before = state.jobs_done
        jobs = count(len(plan.jobs), "job")
        if plan.seeding is not None:
            first = len(plan.jobs) // plan.seeding.most * plan.seeding.least
            jobs = f"{first:,} to {jobs}, as the scores have it ({rule_text(plan.seeding)})"
        what = f"{plan.name}: {count(len(plan.cells), 'cell')}, {jobs}"
        resumed = f", {done_before} of them done before" if done_before else ""
        out.say(f"{what}{resumed}; results in {folder.root}")
        result = SweepResult(folder.root, jobs=state.jobs_total, done=done_before, failed=0)
        if not state.complete:
            _drive(
                plan,
                run_id=run_id,
                folder=folder,
                store=store,
                state=state,
                address=address,
                out=out,
                result=result,
                named=by_name(source.spec),
                exams=exams,
            )
        # What was committed may have been deleted since: nothing is said to be kept that is not there.
        try:
            for lost in store.check():
                out.say(f"warning: {lost}")
        except StoreError as gone:
            result.done, result.failed, result.trouble = 0, 0, gone
            return result
        finals = store.finals()
        result.done = len(finals)
        result.failed = sum(found == "infrastructure" for found in finals.values())
        return result


def _drive(
    plan: Plan,
    *,
    run_id: str,
    folder: RunDir,
    store: RunStore,
    state: SweepState,
    address: str | None,
    out: Printer,
    result: SweepResult,
    named: frozenset[str],
    exams: Mapping[str, FolderExam],
) -> None:
    from orchestrator.driver import Driver

    where = "this machine" if address is None else address
    out.say(f"starting Ray on {where} ...")
    with (
        Journal(folder.journal) as journal,
        connect(address) as cluster,
        watch(state.jobs_total, state.jobs_done, out, most=len(plan.jobs)) as progress,
    ):
        journal.append("driver_started", quantsweep_version=version("quantsweep"))
        report = Driver(
            plan,
            run_id=run_id,
            folder=folder,
            store=store,
            journal=journal,
            state=state,
            cluster=cluster,
            progress=progress,
            named=named,
            exams=exams,
        ).run()
    labels = {cell.cell_id: cell.label for cell in plan.cells}
    result.interrupted = report.interrupted
    result.trouble = report.trouble
    result.unplaced = {labels[cell_id]: reasons for cell_id, reasons in report.unplaced.items()}
    result.left_out = {labels[cell_id]: reasons for cell_id, reasons in report.left_out.items()}
    done, asks = store.finals(), state.seeding
    result.jobs = state.jobs_total - sum(
        job.cell_id in report.left_out and job.job_id not in done and (asks is None or asks.is_asked_for(job.job_id))
        for job in plan.jobs
    )
