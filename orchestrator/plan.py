"""The plan of a sweep: cells and jobs with every model file pinned, and what identifies them.

`orchestrator.expand` makes it from a spec. It is written into the run folder once, and every later start of that
folder follows it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from orchestrator import fitting
from quants.artifact import Artifact
from runners.chat import Sampling
from runners.engines.base import EngineSettings

if TYPE_CHECKING:
    from orchestrator.fitting import Footprints
    from orchestrator.spec import SweepSpec

PLAN_VERSION = 1
JOB_ID_VERSION = 1


@dataclass(frozen=True, slots=True)
class Cell:
    """Everything that shares one loaded server: a file, how it is served, and how tokens are drawn.

    `footprints` is what it needs on a device, by backend; empty if its header could not be read.
    """

    cell_id: str
    model: str
    variant: str
    artifact: Artifact
    engine: EngineSettings
    sampling: Sampling
    footprints: Footprints = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How a person knows it: model, quant, and the variant if there is one."""
        parts = [self.model, self.artifact.quant, self.variant]
        return " ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Job:
    """One exam with one seed in a cell. `job_id` is the same wherever and whenever the same job is planned."""

    job_id: str
    cell_id: str
    exam: str
    exam_version: str
    seed: int


@dataclass(frozen=True, slots=True)
class Limits:
    """When to give up; not part of any identity."""

    load_timeout_s: float
    generation_timeout_s: float
    retries: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sweep runs. `scoring` maps exam names to the scoring that fills the score column."""

    name: str
    cells: tuple[Cell, ...]
    jobs: tuple[Job, ...]
    limits: Limits
    scoring: dict[str, str]
    overlap_grading: str = "auto"
    warnings: tuple[str, ...] = field(default=())

    def jobs_of(self, cell_id: str) -> list[Job]:
        """The jobs of a cell, in the order they run."""
        return [job for job in self.jobs if job.cell_id == cell_id]

    def to_json(self) -> str:
        """The plan as JSON text; `from_json` reads it back."""
        # A sweep may have 100,000 jobs: `asdict` would copy each of them deeply.
        jobs = [{name: getattr(job, name) for name in Job.__slots__} for job in self.jobs]
        value = {**asdict(replace(self, jobs=())), "jobs": jobs}
        for cell, raw in zip(self.cells, value["cells"], strict=True):
            raw["artifact"] = cell.artifact.to_json()
            raw["footprints"] = fitting.to_json(cell.footprints)
        return json.dumps({"plan_version": PLAN_VERSION, **value}) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan that `to_json` wrote; `ValueError` if it is of another version, `KeyError` if damaged."""
        value = json.loads(text)
        if value.pop("plan_version", None) != PLAN_VERSION:
            msg = f"not a plan of version {PLAN_VERSION}"
            raise ValueError(msg)
        return cls(
            name=value["name"],
            cells=tuple(
                Cell(
                    cell_id=raw["cell_id"],
                    model=raw["model"],
                    variant=raw["variant"],
                    artifact=Artifact.from_json(raw["artifact"]),
                    engine=EngineSettings(**{**raw["engine"], "extra_args": tuple(raw["engine"]["extra_args"])}),
                    sampling=Sampling(**raw["sampling"]),
                    footprints=fitting.from_json(raw["footprints"]),
                )
                for raw in value["cells"]
            ),
            jobs=tuple(Job(**raw) for raw in value["jobs"]),
            limits=Limits(**value["limits"]),
            scoring=value["scoring"],
            overlap_grading=value["overlap_grading"],
            warnings=tuple(value["warnings"]),
        )


def digest(value: Any) -> str:
    """sha256 over canonical JSON, 64 hex digits."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def given_values(value: Any) -> dict[str, Any]:
    """The fields of a settings model or dataclass that are set."""
    fields = value.model_dump() if hasattr(value, "model_dump") else asdict(value)
    return {key: item for key, item in fields.items() if item is not None}


def cell_identity(artifact: Artifact, engine: EngineSettings, sampling: Sampling) -> dict[str, Any]:
    """What makes two cells the same: content of the files, comparable settings, sampling. Never names or places."""
    return {"artifact": artifact.sha256, "engine": engine.comparable(), "sampling": given_values(sampling)}


def make_job_id(identity: dict[str, Any], *, exam: str, exam_version: str, seed: int) -> str:
    """`v1-` and 128 bits of a sha256 over canonical JSON of what makes results comparable."""
    value = {"v": JOB_ID_VERSION, **identity, "exam": exam, "exam_version": exam_version, "seed": seed}
    return f"v{JOB_ID_VERSION}-{digest(value)[:32]}"


def spec_digest(spec: SweepSpec) -> str:
    """Equal for specs that plan the same jobs: limits, description and overlap may change between two starts."""
    return digest(spec.model_dump(mode="json", exclude={"limits", "description", "overlap_grading"}))


def differences(old: SweepSpec, new: SweepSpec) -> list[str]:
    """What differs between two specs, a line a key."""

    def flat(value: Any, path: str = "") -> dict[str, Any]:
        if isinstance(value, dict):
            items: Any = value.items()
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            items = [(f"[{item.get('name', i)}]", item) for i, item in enumerate(value)]
        else:
            return {path: value}
        found: dict[str, Any] = {}
        for key, item in items:
            found |= flat(item, f"{path}.{key}".lstrip(".").replace(".[", "["))
        return found

    exclude = {"limits", "description", "overlap_grading"}
    before, after = (flat(spec.model_dump(mode="json", exclude=exclude)) for spec in (old, new))
    keys = [*before, *(key for key in after if key not in before)]
    missing = "(not there)"
    return [
        f"{key}: was {before.get(key, missing)}, is {after.get(key, missing)}"
        for key in keys
        if before.get(key, missing) != after.get(key, missing)
    ]
