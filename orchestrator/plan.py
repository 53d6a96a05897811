"""The plan of a sweep: cells and jobs with every model file pinned, and what identifies them.

`orchestrator.expand` makes it from a spec. It is written into the run folder once, and every later start of that
folder follows it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from quants.models import model_from_json
from results.contest import Rule
from runners.chat import Sampling
from runners.engines import settings_from_json
from runners.work import Cell, Job

if TYPE_CHECKING:
    from orchestrator.spec import SweepSpec

PLAN_VERSION = 2
JOB_ID_VERSION = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """When to give up; not part of any identity."""

    load_timeout_s: float
    generation_timeout_s: float
    retries: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sweep runs.

    `scoring` maps exam names to the scoring that fills the score column; `folders` those that are not ours to the path
    of their folder when the plan was made. With `seeding`, jobs are those that may be run: which are is decided by the
    scores (`orchestrator.seeding`).
    """

    name: str
    cells: tuple[Cell, ...]
    jobs: tuple[Job, ...]
    limits: Limits
    scoring: dict[str, str]
    overlap_grading: str = "auto"
    warnings: tuple[str, ...] = field(default=())
    seeding: Rule | None = None
    folders: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The plan as JSON text; `from_json` reads it back."""
        # A sweep may have 100,000 jobs: `asdict` would copy each of them deeply.
        jobs = [{name: getattr(job, name) for name in Job.__slots__} for job in self.jobs]
        cells = [
            {
                "cell_id": cell.cell_id,
                "model": cell.model.to_json(),
                "variant": cell.variant,
                "engine": cell.engine.to_json(),
                "sampling": asdict(cell.sampling),
            }
            for cell in self.cells
        ]
        value = {**asdict(replace(self, jobs=(), cells=())), "cells": cells, "jobs": jobs}
        return json.dumps({"plan_version": PLAN_VERSION, **value}) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan that `to_json` wrote, checked as a whole: what it lacks would be taken out of the run.

        Raises:
            ValueError: it is of another version, or its parts do not belong together.
            KeyError, TypeError, AttributeError: it is damaged.
        """
        value = json.loads(text)
        if value.pop("plan_version", None) != PLAN_VERSION:
            msg = f"not a plan of version {PLAN_VERSION}"
            raise ValueError(msg)
        plan = cls(
            name=value["name"],
            cells=tuple(
                Cell(
                    cell_id=raw["cell_id"],
                    model=model_from_json(raw["model"]),
                    variant=raw["variant"],
                    engine=settings_from_json(raw["engine"]),
                    sampling=Sampling(**raw["sampling"]),
                )
                for raw in value["cells"]
            ),
            jobs=tuple(Job(**raw) for raw in value["jobs"]),
            limits=Limits(**value["limits"]),
            scoring=value["scoring"],
            overlap_grading=value["overlap_grading"],
            warnings=tuple(value["warnings"]),
            seeding=_rule_of(value["seeding"]) if value.get("seeding") else None,
            folders=value.get("folders", {}),  # of a plan that was made before there were any: none
        )
        if (wrong := plan._what_is_wrong()) is not None:
            raise ValueError(wrong)
        return plan

    def _what_is_wrong(self) -> str | None:
        """Why the parts cannot be of one plan; None where they can."""
        cells = {cell.cell_id for cell in self.cells}
        if not cells or not self.jobs:
            return f"it has {len(self.cells)} cells and {len(self.jobs)} jobs"
        if len(cells) != len(self.cells) or len({job.job_id for job in self.jobs}) != len(self.jobs):
            return "a cell or a job stands in it twice"
        used = {job.cell_id for job in self.jobs}
        if used != cells:
            return (
                f"{len(used - cells)} cells of its jobs are not in it, and {len(cells - used)} of its cells have no job"
            )
        exams = {job.exam for job in self.jobs}
        if missing := exams - set(self.scoring):
            return f"it does not say how {', '.join(sorted(missing))} is scored"
        texts = [self.name, *self.scoring.values(), *self.warnings]
        texts += [
            text for job in self.jobs for text in (job.job_id, job.cell_id, job.exam, job.prompt_version, job.task)
        ]
        texts += [*self.folders, *self.folders.values()]
        if not self.folders.keys() <= exams:
            return "it names folders of exams that no job is of"
        if not all(isinstance(text, str) for text in texts) or not all(type(job.seed) is int for job in self.jobs):
            return "a text or a seed in it is none"
        return None


def _rule_of(value: dict[str, Any]) -> Rule:
    rule = Rule(**value)
    if type(rule.least) is not int or type(rule.most) is not int:
        msg = "its numbers of seeds are none"
        raise ValueError(msg)
    return rule


def digest(value: Any) -> str:
    """sha256 over canonical JSON, 64 hex digits."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def make_job_id(identity: dict[str, Any], *, exam: str, task: str, prompt_version: str, seed: int) -> str:
    """`v1-` and 128 bits of a sha256 over canonical JSON of what makes results comparable."""
    value = {
        "v": JOB_ID_VERSION,
        **identity,
        "exam": exam,
        "task": task,
        "prompt_version": prompt_version,
        "seed": seed,
    }
    return f"v{JOB_ID_VERSION}-{digest(value)[:32]}"


def spec_digest(spec: SweepSpec) -> str:
    """Equal for specs that plan the same jobs: limits, description and overlap may change between two starts."""
    value = spec.model_dump(mode="json", exclude={"limits", "description", "overlap_grading", "margin"})
    return digest(value if spec.seeding is None else value | {"seeding": asdict(spec.seeding)})
