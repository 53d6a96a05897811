"""The plan of a sweep: cells and jobs with every model file pinned, made before anything runs.

`expand` turns a spec into a plan; it asks sources what they hold and pins size, sha256 and commit of every file.
A plan is written into the run folder once, and every later start of that folder follows it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import Problem, SpecError
from orchestrator.toml_lines import LineIndex
from quants.artifact import Artifact
from quants.errors import QuantsError
from runners.chat import Sampling
from runners.engines.base import EngineSettings, EngineUnavailable
from runners.errors import RunnersError

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.spec import ModelSpec, SweepSpec, VariantSpec

PLAN_VERSION = 1
JOB_ID_VERSION = 1
DEFAULT_CONTEXT = 16384
DEFAULT_SAMPLING = Sampling(temperature=0.8, top_p=0.95, top_k=40, min_p=0.05, max_tokens=8192)
"""llama.cpp's own sampling defaults, sent explicitly so that no build can change them under us. The token cap is
twice the 4,096 that cut a published answer off in the middle of a line."""
CHARS_PER_TOKEN = 2
"""A cautious bound for prompts: ordinary vocabularies need about one token for four characters."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Everything that shares one loaded server: a file, how it is served, and how tokens are drawn."""

    cell_id: str
    model: str
    variant: str
    artifact: Artifact
    engine: EngineSettings
    sampling: Sampling

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

    def cell(self, cell_id: str) -> Cell:
        """The cell of that id; `KeyError` if there is none."""
        for cell in self.cells:
            if cell.cell_id == cell_id:
                return cell
        raise KeyError(cell_id)

    def jobs_of(self, cell_id: str) -> list[Job]:
        """The jobs of a cell, in the order they run."""
        return [job for job in self.jobs if job.cell_id == cell_id]

    def to_json(self) -> str:
        """The plan as JSON text; `from_json` reads it back."""
        value = asdict(self)
        for cell, raw in zip(self.cells, value["cells"], strict=True):
            raw["artifact"] = cell.artifact.to_json()
        return json.dumps({"plan_version": PLAN_VERSION, **value}, indent=1) + "\n"

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
                )
                for raw in value["cells"]
            ),
            jobs=tuple(Job(**raw) for raw in value["jobs"]),
            limits=Limits(**value["limits"]),
            scoring=value["scoring"],
            overlap_grading=value["overlap_grading"],
            warnings=tuple(value["warnings"]),
        )


def _digest(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _given(value: Any) -> dict[str, Any]:
    """The fields of a settings model or dataclass that are set."""
    fields = value.model_dump() if hasattr(value, "model_dump") else asdict(value)
    return {key: item for key, item in fields.items() if item is not None}


def cell_identity(artifact: Artifact, engine: EngineSettings, sampling: Sampling) -> dict[str, Any]:
    """What makes two cells the same: content of the files, comparable settings, sampling. Never names or places."""
    return {"artifact": artifact.sha256, "engine": engine.comparable(), "sampling": _given(sampling)}


def make_job_id(identity: dict[str, Any], *, exam: str, exam_version: str, seed: int) -> str:
    """`v1-` and 128 bits of a sha256 over canonical JSON of what makes results comparable."""
    value = {"v": JOB_ID_VERSION, **identity, "exam": exam, "exam_version": exam_version, "seed": seed}
    return f"v{JOB_ID_VERSION}-{_digest(value)[:32]}"


def spec_digest(spec: SweepSpec) -> str:
    """Equal for specs that plan the same jobs: limits, description and overlap may change between two starts."""
    return _digest(spec.model_dump(mode="json", exclude={"limits", "description", "overlap_grading"}))


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


class _Expander:
    """Collects every problem of a spec before it gives up, so that a person mends them in one go."""

    def __init__(self, spec: SweepSpec, *, file: str, text: str, base_dir: Path, local: bool) -> None:
        self.spec, self.file, self.base_dir, self.local = spec, file, base_dir, local
        self.index = LineIndex(text)
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def problem(self, message: str, *path: str | int) -> None:
        key = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")
        found = Problem(message, key or None, self.index.line(path))
        if found not in self.problems:
            self.problems.append(found)

    def exams(self) -> dict[str, Any]:
        from runners.exams import get_exam

        found = {}
        for number, name in enumerate(self.spec.exams):
            try:
                exam = found[name] = get_exam(name)
            except RunnersError as error:
                self.problem(_one_line(error), "exams", number)
                continue
            if self.spec.scoring is not None and self.spec.scoring not in exam.scorings:
                known = ", ".join(exam.scorings)
                self.problem(f"exam {name!r} has no scoring {self.spec.scoring!r}; it has: {known}", "scoring")
        return found

    def engine(self, number: int, model: ModelSpec, variant: VariantSpec | None) -> EngineSettings | None:
        from runners.engines import get_engine

        layers = [_given(self.spec.engine), _given(model.engine)]
        if variant is not None:
            layers.append(_given(variant.engine))
            if variant.reasoning is not None:
                layers.append({"reasoning": variant.reasoning})
        given: dict[str, Any] = {"context": DEFAULT_CONTEXT}
        for layer in layers:
            given |= layer
        given["extra_args"] = tuple(given.get("extra_args", ()))
        if given.get("binary"):
            given["binary"] = str((self.base_dir / Path(given["binary"]).expanduser()).absolute())
        settings = EngineSettings(load_timeout_s=self.spec.limits.load_timeout_s, **given)
        where: tuple[str | int, ...] = ("models", number, "engine") if model.engine.kind else ("engine",)
        try:
            engine = get_engine(settings.kind, binary=settings.binary)
        except RunnersError as error:
            self.problem(_one_line(error), *where, "kind")
            return None
        if self.local and settings.kind != "embedded":
            found = engine.available()
            if isinstance(found, EngineUnavailable):
                text = found.reason + (f"; {found.hint}" if found.hint else "")
                self.problem(text, *where, "binary" if settings.binary else "kind")
        if settings.cache_type_v not in {"f32", "f16", "bf16"} and settings.flash_attention == "off":
            self.problem("a quantized V cache needs flash attention, which is off", "engine", "flash_attention")
        return settings

    def sampling(self, model: ModelSpec, variant: VariantSpec | None) -> Sampling:
        given = _given(self.spec.sampling) | _given(model.sampling)
        if variant is not None:
            given |= _given(variant.sampling)
        return replace(DEFAULT_SAMPLING, **given)

    def check_room(self, engine: EngineSettings, sampling: Sampling, exams: dict[str, Any], model: str) -> None:
        """A context that cannot hold prompt and answer cuts answers off, which is no finding about the model."""
        cap = sampling.max_tokens or 0
        prompt = max(
            (sum(len(m["content"]) for m in exam.messages()) // CHARS_PER_TOKEN for exam in exams.values()), default=0
        )
        if cap + prompt > engine.context:
            self.problem(
                f"the context of {engine.context} tokens is too small for model {model!r}: the prompt may take "
                f"{prompt} and sampling.max_tokens allows {cap}; set engine.context to at least {cap + prompt}, "
                "or lower sampling.max_tokens",
                "engine",
                "context",
            )
        if engine.reasoning_budget is not None and cap and engine.reasoning_budget >= cap:
            self.problem(
                f"sampling.max_tokens ({cap}) leaves nothing after engine.reasoning_budget "
                f"({engine.reasoning_budget}): every answer would be empty; raise max_tokens",
                "engine",
                "reasoning_budget",
            )

    def artifacts(self, number: int, model: ModelSpec) -> tuple[Artifact, ...]:
        from quants.source import resolve, select

        try:
            listing = resolve(model.source, base_dir=self.base_dir)
        except QuantsError as error:
            self.problem(_one_line(error), "models", number, "source")
            return ()
        for path, reason in listing.skipped:
            self.warnings.append(f"model {model.name!r}: {path} is left out: {reason}")
        try:
            return select(listing, model.quants)
        except QuantsError as error:
            self.problem(_one_line(error), "models", number, "quants")
            return ()

    def expand(self) -> Plan:
        exams = self.exams()
        cells: dict[str, Cell] = {}
        jobs: list[Job] = []
        for number, model in enumerate(self.spec.models):
            artifacts = self.artifacts(number, model)
            variants: list[VariantSpec | None] = [*model.variants] or [None]
            for variant in variants:
                engine, sampling = self.engine(number, model, variant), self.sampling(model, variant)
                if engine is None:
                    continue
                self.check_room(engine, sampling, exams, model.name)
                for artifact in artifacts:
                    identity = cell_identity(artifact, engine, sampling)
                    cell = Cell(
                        cell_id=f"c{_digest(identity)[:12]}",
                        model=model.name,
                        variant=variant.name if variant else "",
                        artifact=artifact,
                        engine=engine,
                        sampling=sampling,
                    )
                    if (twin := cells.get(cell.cell_id)) is not None:
                        self.problem(
                            f"{cell.label!r} is the same file with the same settings as {twin.label!r}; "
                            "its jobs would be run twice under two names",
                            "models",
                            number,
                        )
                        continue
                    cells[cell.cell_id] = cell
                    jobs += [
                        Job(
                            make_job_id(identity, exam=name, exam_version=exam.version, seed=seed),
                            cell.cell_id,
                            name,
                            exam.version,
                            seed,
                        )
                        for name, exam in exams.items()
                        for seed in self.spec.seeds
                    ]
        if self.problems:
            raise SpecError(self.file, self.problems)
        if len(self.spec.seeds) == 1 and len(cells) > 1:
            self.warnings.append(
                "one seed says nothing about the difference between two quants: give several, such as seeds = '1-10'"
            )
        return Plan(
            name=self.spec.name,
            cells=tuple(cells.values()),
            jobs=tuple(jobs),
            limits=Limits(**self.spec.limits.model_dump()),
            scoring={name: self.spec.scoring or exam.scorings[0] for name, exam in exams.items()},
            overlap_grading=self.spec.overlap_grading,
            warnings=tuple(self.warnings),
        )


def _one_line(error: Exception) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())


def expand(
    spec: SweepSpec,
    *,
    file: str,
    text: str,
    base_dir: Path,
    local: bool = True,
    status: Callable[[str], object] = lambda _: None,
) -> Plan:
    """The plan of `spec`, with every file pinned.

    Args:
        spec: validated.
        file: how errors call the spec's file.
        text: the spec's text, for line numbers.
        base_dir: the folder that relative paths count from.
        local: the sweep runs on this machine alone, so an engine that is not here is an error now.
        status: told what is being done, since hashing and asking the Hub can take a while.

    Raises:
        SpecError: lists everything that does not work out.
    """
    status("looking up models and pinning their files")
    return _Expander(spec, file=file, text=text, base_dir=base_dir, local=local).expand()
