"""From a spec to a plan: what the survey found is pinned, file by file, and gets its identity."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.errors import SpecError, one_line
from orchestrator.late import said_late
from orchestrator.newcomers import LEFT_OUT
from orchestrator.plan import Limits, Plan, digest, make_job_id
from orchestrator.survey import Surveyor, twins
from quants.errors import QuantsError
from quants.models import FileModel
from runners.work import Job, cell_identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from orchestrator.offload import Machines
    from orchestrator.spec import SweepSpec
    from orchestrator.survey import SurveyedCell
    from quants.artifact import Artifact
    from quants.models import Model
    from runners.work import Cell

HASHING_SAID_EVERY_S = 5.0


class _Pinning:
    """Pins each candidate once, whatever number of cells it is part of, and says how far it is."""

    def __init__(self, status: Callable[[str], object]) -> None:
        self._status = status
        self._done: dict[tuple[str, str], Artifact] = {}
        self._next_s = time.monotonic() + HASHING_SAID_EVERY_S

    def pinned(self, found: SurveyedCell) -> Model:
        """The model of a cell with its files pinned; as it is where it has none.

        Raises:
            QuantsError: a file cannot be read, or the Hub does not say what is in it.
        """
        from quants.sources.resolve import pin

        model, listing, candidate = found.model, found.listing, found.candidate
        if not isinstance(model, FileModel) or listing is None or candidate is None:
            return model
        key = (listing.source, candidate.quant)
        if key not in self._done:
            self._done[key] = pin(listing, candidate, progress=self._progress)
        return replace(model, artifact=self._done[key])

    def _progress(self, path: str, done: int, size: int) -> None:
        now = time.monotonic()
        if now >= self._next_s and size:
            self._next_s = now + HASHING_SAID_EVERY_S
            self._status(f"hashing {path}: {100 * done // size}% of {size / 1e9:.1f} GB")


def expand(
    spec: SweepSpec,
    *,
    file: str,
    text: str,
    base_dir: Path,
    local: bool = True,
    status: Callable[[str], object] = lambda _: None,
    machines: Machines | None = None,
    earlier: Iterable[Cell] = (),
) -> Plan:
    """The plan of `spec`, with every file pinned.

    Args:
        spec: validated.
        file: how errors call the spec's file.
        text: the spec's text, for line numbers.
        base_dir: the folder that relative paths count from.
        local: the sweep runs on this machine alone, so an engine that is not here is an error now.
        machines: gives the profiles of the machines that may serve it, None for this one.
        earlier: cells of the plan that this one is to take the place of.
        status: told what is being done where that takes a while, as hashing and asking the Hub may.

    Raises:
        SpecError: lists everything that does not work out.
    """
    surveyor = Surveyor(spec, file=file, text=text, base_dir=base_dir, local=local, machines=machines, earlier=earlier)
    with said_late(status, "looking up models"):
        survey = surveyor.survey()
    if survey.problems:  # before anything is hashed, which may take minutes
        raise SpecError(file, survey.problems)
    pinning = _Pinning(status)
    cells: dict[str, Cell] = {}
    jobs: list[Job] = []
    for found in survey.cells:
        try:
            model = pinning.pinned(found)
        except QuantsError as error:
            surveyor.problem(one_line(error), "models", found.number, "quants")
            continue
        identity = cell_identity(model, found.cell.engine, found.cell.sampling)
        cell = replace(found.cell, cell_id=f"c{digest(identity)[:12]}", model=model)
        if (twin := cells.get(cell.cell_id)) is not None:
            surveyor.problem(twins(cell, twin), "models", found.number)
            continue
        cells[cell.cell_id] = cell
        jobs += [
            Job(
                make_job_id(identity, exam=name, task=task.name, prompt_version=exam.prompt_version, seed=seed),
                cell.cell_id,
                name,
                exam.prompt_version,
                seed,
                task.name,
            )
            for name, exam in survey.exams.items()
            for task in exam.tasks()
            for seed in spec.seeds
        ]
    if survey.problems:
        raise SpecError(file, survey.problems)
    warnings = [*survey.warnings, *(f"{cell.label}{LEFT_OUT}{reason}" for cell, reason in survey.left_out)]
    if len(spec.seeds) == 1 and len(cells) > 1:
        warnings.append(
            "one seed says nothing about the difference between two quants: give several, such as seeds = '1-10'"
        )
    return Plan(
        name=spec.name,
        cells=tuple(cells.values()),
        jobs=tuple(jobs),
        limits=Limits(**spec.limits.model_dump()),
        scoring={name: spec.scoring or exam.scorings[0] for name, exam in survey.exams.items()},
        overlap_grading=spec.overlap_grading,
        warnings=tuple(warnings),
        seeding=spec.seeding,
        folders=survey.folders,
    )
