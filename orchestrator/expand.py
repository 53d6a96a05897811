"""From a spec to a plan: sources say what they hold, every file is pinned, every problem is told at once."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from orchestrator.engine_choice import Layer, given_values, program_path, settle
from orchestrator.errors import Problem, SpecError
from orchestrator.fitting import footprints_of, verdict_on
from orchestrator.late import said_late
from orchestrator.nodes import EMBEDDED, engine_of, serving_devices, verdicts_for, why_not_served
from orchestrator.plan import Limits, Plan, digest, make_job_id
from orchestrator.spec import EngineSpec
from orchestrator.toml_lines import LineIndex
from quants.errors import QuantsError
from quants.fit import VerdictKind
from quants.models import FileModel
from quants.trained import beyond_trained, trained_context
from runners.chat import Sampling
from runners.engines.base import EngineUnavailable
from runners.errors import RunnersError
from runners.work import Cell, Job, cell_identity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from orchestrator.spec import ModelSpec, SweepSpec, VariantSpec
    from profiles.types import NodeProfile
    from quants.artifact import Artifact
    from quants.gguf import Header
    from quants.listing import Listing
    from runners.engines.settings import LlamaCppSettings

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

    def engine(self, number: int, model: ModelSpec, variant: VariantSpec | None) -> LlamaCppSettings | None:
        """The engine's settings; what is wrong with them is noted, and None returned where nothing can be made."""
        from runners.engines import get_engine

        layers: list[Layer] = [(("engine",), self.spec.engine), (("models", number, "engine"), model.engine)]
        if variant is not None:
            place = ("models", number, "variants", model.variants.index(variant))
            layers.append(((*place, "engine"), variant.engine))
            if variant.reasoning is not None:
                layers.append((place, EngineSpec(reasoning=variant.reasoning)))
        found = settle(layers, base_dir=self.base_dir, load_timeout_s=self.spec.limits.load_timeout_s)
        for message, path in found.problems:
            self.problem(message, *path)
        settings = found.settings
        if settings is None:
            return None
        if self.local and settings.kind != "embedded":
            there = get_engine(settings.kind, binary=settings.program).available()
            if isinstance(there, EngineUnavailable):
                text = there.reason + (f"; {there.hint}" if there.hint else "")
                self.problem(text, *found.kind_path[:-1], "binary" if settings.program else "kind")
        return settings

    def sampling(self, model: ModelSpec, variant: VariantSpec | None) -> Sampling:
        given = given_values(self.spec.sampling) | given_values(model.sampling)
        if variant is not None:
            given |= given_values(variant.sampling)
        return replace(DEFAULT_SAMPLING, **given)

    def check_room(self, engine: LlamaCppSettings, sampling: Sampling, exams: dict[str, Any], model: str) -> None:
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

    def check_trained(self, engine: LlamaCppSettings, model: str, headers: dict[str, Header]) -> None:
        """Warns of a context that is longer than what the model was made for."""
        trained = [trained_context(header) for header in headers.values()]
        text = beyond_trained(f"model {model!r}", engine.context, trained, engine.not_counted())
        if text is not None and text not in self.warnings:
            self.warnings.append(text)

    def listing(self, number: int, model: ModelSpec) -> Listing | None:
        from quants.source import resolve

        try:
            found = resolve(model.source, base_dir=self.base_dir)
        except QuantsError as error:
            self.problem(_one_line(error), "models", number, "source")
            return None
        for path, reason in found.skipped:
            self.warnings.append(f"model {model.name!r}: {path} is left out: {reason}")
        return found

    def artifacts(self, number: int, model: ModelSpec, listing: Listing) -> tuple[Artifact, ...]:
        from quants.source import select

        try:
            return select(listing, model.quants)
        except QuantsError as error:
            self.problem(_one_line(error), "models", number, "quants")
            return ()

    def headers(self, listing: Listing, artifacts: Sequence[Artifact]) -> dict[str, Header]:
        """The headers of `artifacts` by quant; without one a cell is planned all the same, its verdict unknown."""
        from quants.headers import read_headers

        wanted = {artifact.quant for artifact in artifacts}
        try:
            read = read_headers(listing, [c for c in listing.candidates if c.quant in wanted])
        except QuantsError as error:
            self.warnings.append(f"{listing.source}: its headers could not be read: {_one_line(error)}")
            return {}
        return {found.candidate.quant: found.header for found in read if found.header is not None}

    @cached_property
    def machine(self) -> NodeProfile:
        """This machine, which a local sweep has to make do with."""
        from profiles.probe import probe_node

        layers = [self.spec.engine]
        for model in self.spec.models:
            layers += [model.engine, *(variant.engine for variant in model.variants)]
        named = [program_path(self.base_dir, given) for layer in layers if (given := given_values(layer).get("binary"))]
        return probe_node(binaries=tuple(dict.fromkeys(named)))

    def check_fits(self, number: int, cell: Cell, listing: Listing) -> None:
        """Refuses a cell that no device of this machine can serve or hold, and names the nearest quant that one can."""
        engine = engine_of(cell, self.machine)
        if engine is None or (engine.problem is not None and engine.kind != EMBEDDED):
            return  # told when the engine was looked for
        if (why := why_not_served(cell, self.machine)) is not None:
            self.problem(why, "engine")
            return
        verdicts = verdicts_for(cell, self.machine)
        if not verdicts or any(verdict.kind is not VerdictKind.TOO_BIG for verdict in verdicts.values()):
            return
        reasons = "; ".join(f"{device_id}: {verdict.reason}" for device_id, verdict in verdicts.items())
        nearest = self.nearest_that_fits(cell, listing)
        way_out = f"the nearest that fits is {nearest!r}" if nearest else "no smaller quant of it fits either"
        self.problem(f"{cell.label!r} does not fit this machine ({reasons}); {way_out}", "models", number, "quants")

    def nearest_that_fits(self, cell: Cell, listing: Listing) -> str | None:
        """The largest quant below the cell's that some device can hold under the same settings."""
        from quants.headers import read_headers

        smaller = [c for c in listing.candidates if c.file_bytes < (cell.model.file_bytes or 0)]
        try:
            read = read_headers(listing, smaller)
        except QuantsError:
            return None
        for found in sorted(read, key=lambda each: -each.candidate.file_bytes):
            if found.header is None:
                continue
            footprints = footprints_of(found.header, cell.engine)
            for device_id, name in serving_devices(cell, self.machine).items():
                device = self.machine.device(device_id)
                verdict = verdict_on(footprints, found.candidate.file_bytes, self.machine, device, name)
                if verdict.kind in {VerdictKind.FITS, VerdictKind.FITS_OFFLOADED}:
                    return found.candidate.quant
        return None

    def expand(self) -> Plan:
        exams = self.exams()
        cells: dict[str, Cell] = {}
        jobs: list[Job] = []
        for number, model in enumerate(self.spec.models):
            listing = self.listing(number, model)
            artifacts = self.artifacts(number, model, listing) if listing else ()
            headers = self.headers(listing, artifacts) if listing and artifacts else {}
            variants: list[VariantSpec | None] = [*model.variants] or [None]
            for variant in variants:
                engine, sampling = self.engine(number, model, variant), self.sampling(model, variant)
                if engine is None:
                    continue
                self.check_room(engine, sampling, exams, model.name)
                self.check_trained(engine, model.name, headers)
                for artifact in artifacts:
                    header = headers.get(artifact.quant)
                    served = FileModel(model.name, artifact, footprints_of(header, engine) if header else {})
                    identity = cell_identity(served, engine, sampling)
                    cell = Cell(
                        cell_id=f"c{digest(identity)[:12]}",
                        model=served,
                        variant=variant.name if variant else "",
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
                    if self.local and listing is not None:
                        self.check_fits(number, cell, listing)
                    jobs += [
                        Job(
                            make_job_id(identity, exam=name, prompt_version=exam.prompt_version, seed=seed),
                            cell.cell_id,
                            name,
                            exam.prompt_version,
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
        status: told what is being done where that takes a while, as hashing and asking the Hub may.

    Raises:
        SpecError: lists everything that does not work out.
    """
    with said_late(status, "looking up models and pinning their files"):
        return _Expander(spec, file=file, text=text, base_dir=base_dir, local=local).expand()
