"""A sweep whose spec was changed: what is new, what was taken out, and what may not change in one run folder.

What rows are called (model, quant, variant, exam) and how they were scored means one thing in a folder for good: also
for what was taken out of it, whose rows stay on record.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from orchestrator.plan import make_job_id
from quants.models import FileModel
from results.answer import exam_name
from results.figures import count, ranges
from runners.work import Cell, Job, cell_identity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from orchestrator.plan import Plan
    from orchestrator.spec import ModelSpec, SweepSpec
    from quants.models import Model

_MISSING = "(not there)"


@dataclass(frozen=True, slots=True)
class Growth:
    """A plan that takes an earlier one's place."""

    earlier: Plan
    plan: Plan

    def said(self, done: Collection[str]) -> list[str]:
        """What that means, a line each, where the jobs `done` have ended: what was taken out before may come back."""
        return list(_said(self.earlier, self.plan, done))


def what_clashes(new: Plan, earlier: Iterable[Plan]) -> list[str]:
    """Why rows of `new` could not stand beside those of the plans before it, a line each; empty if they can."""
    lines: list[str] = []
    cells, scoring, prompts = new.cells, new.scoring, _prompts(new)
    for plan in earlier:
        if plan.name != new.name:
            lines.append(f"name: was {plan.name}, is {new.name}")
        settings = {(cell.model.name, cell.variant): _settings(cell) for cell in plan.cells}
        files = {(cell.model.name, cell.model.quant): cell.model for cell in plan.cells}
        for cell in cells:
            place = f"{cell.model.name} ({cell.variant})" if cell.variant else cell.model.name
            before = settings.get((cell.model.name, cell.variant))
            if before is not None:
                lines += [f"{place}: {line}" for line in _changes(before, _settings(cell))]
            file = files.get((cell.model.name, cell.model.quant))
            if file is not None:
                name = f"{cell.model.name} {cell.model.quant}".strip()
                changed = _changes(file.identity(), cell.model.identity())
                lines += [f"{name}: {line}{_pinned(file)}" for line in changed]
        lines += [
            f"scoring of {exam}: was {plan.scoring[exam]}, is {scoring[exam]}"
            for exam in plan.scoring
            if exam in scoring and scoring[exam] != plan.scoring[exam]
        ]
        lines += [
            f"exam {exam}: its prompt was version {version}, is {prompts[exam]}"
            for exam, version in _prompts(plan).items()
            if prompts.get(exam, version) != version
        ]
    return list(dict.fromkeys(lines))


def grown(old_spec: SweepSpec, new_spec: SweepSpec, old: Plan, new: Plan) -> Growth:
    """The plan that follows `old` where the spec was changed to `new_spec`, of which `new` was made just now.

    A quant that nobody named (`quants = "all"`) and that is left out today, because this machine has less room or the
    repository lost the file, was not taken out by anybody: it stays in the sweep, with the file that was pinned.
    """
    here = {(cell.model.name, cell.variant, cell.model.quant) for cell in new.cells}
    kept = [
        cell
        for cell in old.cells
        if (cell.model.name, cell.variant, cell.model.quant) not in here and _still_asked_for(cell, old_spec, new_spec)
    ]
    plan = replace(
        new,
        cells=(*new.cells, *kept),
        jobs=(*new.jobs, *(job for cell in kept for job in _jobs_of(cell, new, new_spec))),
    )
    return Growth(old, plan)


def _pinned(model: Model) -> str:
    """How a spec asks for the file that a run has, where a repository has another one by now."""
    if not isinstance(model, FileModel) or model.artifact.repo is None:
        return ""
    return f" (this run has that of hf:{model.artifact.repo}@{model.artifact.revision})"


def _settings(cell: Cell) -> dict[str, Any]:
    identity = cell_identity(cell.model, cell.engine, cell.sampling)
    return {"engine": identity["engine"], "sampling": identity["sampling"]}


def _prompts(plan: Plan) -> dict[str, str]:
    return {job.exam: job.prompt_version for job in plan.jobs}


def differences(
    before: Mapping[str, Any], after: Mapping[str, Any], path: str = ""
) -> Iterator[tuple[str, object, object]]:
    """Where two identities differ: `engine.context` with the value of each."""
    for key in dict.fromkeys([*before, *after]):
        one, other = before.get(key, _MISSING), after.get(key, _MISSING)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from differences(one, other, f"{path}{key}.")
        elif one != other:
            yield f"{path}{key}", one, other


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    return (f"{key}: was {one}, is {other}" for key, one, other in differences(before, after))


def _still_asked_for(cell: Cell, old_spec: SweepSpec, new_spec: SweepSpec) -> bool:
    """Whether the spec asks for a cell by a word for many quants, with the settings that it had."""
    before, after = _model(old_spec, cell), _model(new_spec, cell)
    if before is None or after is None or isinstance(after.quants, list):
        return False
    if (old_spec.engine, old_spec.sampling) != (new_spec.engine, new_spec.sampling):
        return False

    def served(model: ModelSpec) -> list[Any]:
        variants = [variant for variant in model.variants if variant.name == cell.variant]
        return [model.source, model.engine, model.sampling, variants, bool(model.variants)]

    return served(before) == served(after)


def _model(spec: SweepSpec, cell: Cell) -> ModelSpec | None:
    return next((model for model in spec.models if model.name == cell.model.name), None)


def _jobs_of(cell: Cell, new: Plan, spec: SweepSpec) -> Iterator[Job]:
    identity = cell_identity(cell.model, cell.engine, cell.sampling)
    asked = {(job.exam, job.task): job.prompt_version for job in new.jobs}
    for (exam, task), version in asked.items():
        for seed in spec.seeds:
            job_id = make_job_id(identity, exam=exam, task=task, prompt_version=version, seed=seed)
            yield Job(job_id, cell.cell_id, exam, version, seed, task)


def _said(old: Plan, new: Plan, done: Collection[str]) -> Iterator[str]:
    before, after = {job.job_id for job in old.jobs}, {job.job_id for job in new.jobs}
    if before == after:
        how = "" if old.seeding == new.seeding else ", and how many of them are run is decided otherwise"
        yield f"the spec was changed; its jobs are the same{how}"
        return
    come, gone, back = after - before, before - after, len((after - before).intersection(done))
    new_ones = (
        count(len(come), "new job") if not back else f"{count(len(come), 'job')} new or back ({back:,} done before)"
    )
    if new.seeding is not None and come:
        new_ones = f"at most {new_ones}"
    yield f"the spec was changed: {new_ones}, {len(before & after):,} kept, {len(gone):,} taken out"
    if come:
        yield f"{'new or back' if back else 'new'}: {_parts(new, old)}"
    if gone:
        yield f"taken out, what was done stays on record and out of the tables: {_parts(old, new)}"


def _parts(plan: Plan, other: Plan) -> str:
    """What `plan` has that `other` has not: seeds, exams, tasks, cells."""
    seeds = _missing([job.seed for job in plan.jobs], {job.seed for job in other.jobs})
    exams = _missing([job.exam for job in plan.jobs], {job.exam for job in other.jobs})
    asked = [(job.exam, job.task) for job in plan.jobs if job.exam not in exams]
    tasks = [exam_name(*each) for each in _missing(asked, {(job.exam, job.task) for job in other.jobs})]
    ids = {cell.cell_id for cell in other.cells}
    cells = [cell.label for cell in plan.cells if cell.cell_id not in ids]
    found = [
        f"{'seed' if len(seeds) == 1 else 'seeds'} {ranges(seeds)}" if seeds else "",
        f"{'exam' if len(exams) == 1 else 'exams'} {', '.join(exams)}" if exams else "",
        f"{'task' if len(tasks) == 1 else 'tasks'} {', '.join(tasks)}" if tasks else "",
        ", ".join(cells[:8]) + (f" and {len(cells) - 8} more" if len(cells) > 8 else ""),
    ]
    return "; ".join(part for part in found if part) or "other combinations of what is there"


def _missing(values: Sequence[Any], others: Collection[Any]) -> list[Any]:
    return [value for value in dict.fromkeys(values) if value not in others]
