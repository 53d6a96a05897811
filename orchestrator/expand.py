"""From a spec to a plan: sources say what they hold, every file is pinned, every problem is told at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import Problem, SpecError
from orchestrator.plan import Cell, Job, Limits, Plan, cell_identity, digest, given_values, make_job_id
from orchestrator.toml_lines import LineIndex
from quants.errors import QuantsError
from runners.chat import Sampling
from runners.engines.base import EngineSettings, EngineUnavailable
from runners.errors import RunnersError

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.spec import ModelSpec, SweepSpec, VariantSpec
    from quants.artifact import Artifact

DEFAULT_CONTEXT = 16384
DEFAULT_SAMPLING = Sampling(temperature=0.8, top_p=0.95, top_k=40, min_p=0.05, max_tokens=8192)
"""llama.cpp's own sampling defaults, sent explicitly so that no build can change them under us. The token cap is
twice the 4,096 that cut a published answer off in the middle of a line."""
CHARS_PER_TOKEN = 2
"""A cautious bound for prompts: ordinary vocabularies need about one token for four characters."""


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

        layers = [given_values(self.spec.engine), given_values(model.engine)]
        if variant is not None:
            layers.append(given_values(variant.engine))
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
        given = given_values(self.spec.sampling) | given_values(model.sampling)
        if variant is not None:
            given |= given_values(variant.sampling)
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
                        cell_id=f"c{digest(identity)[:12]}",
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
