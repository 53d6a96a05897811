"""From a spec to the cells that it asks for, judged by their headers: nothing is hashed, and only headers are fetched.

Every problem of a spec is collected before it is refused, so that a person mends them in one go.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from orchestrator.asked_exams import asked_exams
from orchestrator.engine_choice import Layer, given_values, settle
from orchestrator.errors import Problem, SpecError, one_line
from orchestrator.fitting import footprints_of
from orchestrator.here import ThisMachine
from orchestrator.known_models import cannot_switch
from orchestrator.newcomers import named_as_before
from orchestrator.offload import Offloading
from orchestrator.plan import digest
from orchestrator.spec import EngineSpec
from orchestrator.unreached import Unreached
from profiles.toml_lines import LineIndex
from quants.artifact import Artifact, ModelFile
from quants.errors import HubUnavailableError, OfflineError, QuantsError
from quants.facts import facts_of
from quants.models import EndpointModel, FileModel
from quants.trained import beyond_trained, trained_context
from runners.chat import Sampling
from runners.engines.base import EngineUnavailable
from runners.engines.settings import EndpointSettings, LlamaCppSettings, LlamaServerSettings
from runners.errors import RunnersError
from runners.work import Cell, cell_identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from orchestrator.offload import Machines
    from orchestrator.spec import ModelSpec, SweepSpec, VariantSpec
    from quants.facts import ModelFacts
    from quants.fit.devices import Footprints
    from quants.gguf import Header
    from quants.models import Model
    from quants.sources.listing import Candidate, Listing
    from runners.engines.settings import EngineSettings

    Way = tuple[VariantSpec | None, EngineSettings | None, Sampling]

DEFAULT_SAMPLING = Sampling(temperature=0.8, top_p=0.95, top_k=40, min_p=0.05, max_tokens=8192)
"""llama.cpp's own sampling defaults, sent explicitly so that no build can change them under us. The token cap is
twice the 4,096 that cut a published answer off in the middle of a line."""
CHARS_PER_TOKEN = 2
"""A cautious bound for prompts: ordinary vocabularies need about one token for four characters."""


@dataclass(frozen=True, slots=True)
class SurveyedCell:
    """A cell that the `number`-th model of a spec asks for.

    Its files are not pinned: `model`, and `cell` which holds it, have their sizes, but no cell id and no sha256 yet.
    `listing` and `candidate` are where they come from, None for a model that somebody else serves.
    """

    number: int
    listing: Listing | None
    candidate: Candidate | None
    model: Model
    cell: Cell


@dataclass(frozen=True, slots=True)
class Survey:
    """What a spec asks for and what of it this machine could serve.

    Attributes:
        exams: by name.
        cells: what is to be run, in the order of the spec.
        left_out: cells that were not asked for by name and fit nothing here, with the sentence that says why.
        problems: what keeps the spec from being run; more may be found when files are pinned.
        warnings: what a person should know.
        unreached: models whose source does not answer, where a plan is to be had all the same.
        folders: where the exams lie that are not ours, by their names.
    """

    exams: dict[str, Any]
    cells: tuple[SurveyedCell, ...]
    left_out: tuple[tuple[Cell, str], ...]
    problems: list[Problem]
    warnings: list[str]
    unreached: tuple[Unreached, ...] = ()
    folders: dict[str, str] = field(default_factory=dict)


class Surveyor:
    """Reads one spec. `problem` is for whoever goes on where the survey ends.

    A source that cannot be asked is a problem, or with `may_lack` one of the models `unreached`.
    """

    def __init__(
        self,
        spec: SweepSpec,
        *,
        file: str,
        text: str,
        base_dir: Path,
        local: bool,
        machines: Machines | None = None,
        earlier: Iterable[Cell] = (),
        may_lack: bool = False,
    ) -> None:
        self.spec, self.file, self.base_dir, self.local = spec, file, base_dir, local
        self._may_lack = may_lack
        self._unreached: list[Unreached] = []
        self._here = ThisMachine(spec, base_dir)
        self._earlier = tuple(earlier)
        self._offloading = Offloading(machines or (lambda: [self._here.profile]), self._earlier)
        self.index = LineIndex(text)
        self.problems: list[Problem] = []
        self.warnings: list[str] = []
        self._limits: dict[str, tuple[int, float | None]] = {}
        self._noted: set[Problem] = set()
        # Of a source that many models name, and of a header that many variants have, work is done once.
        self._listings: dict[str, Listing] = {}
        self._read: dict[tuple[str, tuple[str, ...]], dict[str, Header]] = {}
        self._known: dict[tuple[int, str], tuple[Footprints, ModelFacts]] = {}

    def problem(self, message: str, *path: str | int) -> None:
        """Notes what is wrong with the key at `path`, once."""
        key = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")
        found = Problem(message, key or None, self.index.line(path))
        if found not in self._noted:
            self._noted.add(found)
            self.problems.append(found)

    def _engine(self, number: int, at: int, model: ModelSpec, variant: VariantSpec | None) -> EngineSettings | None:
        """The engine's settings of the `at`-th variant of the `number`-th model; what is wrong with them is noted, and
        None returned where nothing can be made.
        """
        from runners.engines import get_endpoint_engine, get_engine

        layers: list[Layer] = [(("engine",), self.spec.engine), (("models", number, "engine"), model.engine)]
        if variant is not None:
            place = ("models", number, "variants", at)
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
            if isinstance(settings, EndpointSettings):
                there = get_endpoint_engine(settings.kind).available(settings)
            else:
                there = get_engine(settings.kind, binary=settings.program).available()
            if isinstance(there, EngineUnavailable):
                text = there.reason + (f"; {there.hint}" if there.hint else "")
                named = "key_env" if isinstance(settings, EndpointSettings) else "binary"
                self.problem(text, *found.kind_path[:-1], named if settings.program else "kind")
        return settings

    def _way(self, number: int, at: int, model: ModelSpec, variant: VariantSpec | None) -> Way:
        engine = self._engine(number, at, model, variant)
        own = given_values(model.sampling) | (given_values(variant.sampling) if variant is not None else {})
        given = given_values(self.spec.sampling) | own
        if not isinstance(engine, EndpointSettings):
            return variant, engine, replace(DEFAULT_SAMPLING, **given)
        for name in sorted(own.keys() - engine.takes_sampling):
            text = f"{engine.kind} has no such setting; leave {name} out"
            self.problem(text, "models", number, *(() if name in given_values(model.sampling) else ("variants", at)))
        defaults = Sampling(max_tokens=DEFAULT_SAMPLING.max_tokens) if engine.leaves_sampling else DEFAULT_SAMPLING
        without = dict.fromkeys({each.name for each in fields(Sampling)} - engine.takes_sampling | engine.left_out)
        return variant, engine, replace(defaults, **{**given, **without})

    def _check_room(self, engine: LlamaCppSettings, sampling: Sampling, exams: dict[str, Any], model: str) -> None:
        """A context that cannot hold prompt and answer cuts answers off, which is no finding about the model."""
        cap = sampling.max_tokens or 0
        prompt = max(
            (
                sum(len(message.content) for message in task.messages) // CHARS_PER_TOKEN
                for exam in exams.values()
                for task in exam.tasks()
            ),
            default=0,
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

    def _check_trained(self, engine: LlamaCppSettings, model: str, headers: dict[str, Header]) -> None:
        """Warns of a context that is longer than what the model was made for."""
        trained = [trained_context(header) for header in headers.values()]
        text = beyond_trained(f"model {model!r}", engine.context, trained, engine.not_counted())
        if text is not None and text not in self.warnings:
            self.warnings.append(text)

    def _check_reasoning(self, engine: LlamaCppSettings, model: ModelSpec) -> None:
        """Warns of a switch that the model does not have, as far as the catalogue knows it."""
        if isinstance(engine, LlamaServerSettings) and engine.chat_template is not None:
            return  # it may have another one
        for_all = engine.reasoning == self.spec.engine.reasoning
        text = cannot_switch(model.name, model.source, engine.reasoning, for_all=for_all)
        if text is not None and text not in self.warnings:
            self.warnings.append(text)

    def _listing(self, number: int, model: ModelSpec) -> Listing | None:
        from quants.sources.resolve import resolve

        try:
            found = self._listings.get(model.source) or resolve(model.source, base_dir=self.base_dir)
        except QuantsError as error:
            if self._may_lack and isinstance(error, OfflineError | HubUnavailableError):
                self._unreached.append(Unreached(model, one_line(error)))
            else:
                self.problem(one_line(error), "models", number, "source")
            return None
        self._listings[model.source] = found
        for path, reason in found.skipped:
            self.warnings.append(f"model {model.name!r}: {path} is left out: {reason}")
        return named_as_before(found, model.name, self._earlier)

    def _candidates(self, number: int, model: ModelSpec, listing: Listing) -> tuple[Candidate, ...]:
        from quants.sources.resolve import choose

        try:
            return choose(listing, "all" if isinstance(model.quants, str) else model.quants)
        except QuantsError as error:
            self.problem(one_line(error), "models", number, "quants")
            return ()

    def _headers(self, listing: Listing, candidates: Sequence[Candidate]) -> dict[str, Header]:
        """The headers of `candidates` by quant; without one a cell is planned all the same, its verdict unknown."""
        from quants.sources.headers import read_headers

        key = (listing.source, tuple(candidate.quant for candidate in candidates))
        if key in self._read:
            return self._read[key]
        try:
            read = read_headers(listing, candidates)
        except QuantsError as error:
            self.warnings.append(f"{listing.source}: its headers could not be read: {one_line(error)}")
            return {}
        self._read[key] = {found.candidate.quant: found.header for found in read if found.header is not None}
        return self._read[key]

    def _unpinned(
        self, name: str, listing: Listing, candidate: Candidate, header: Header | None, engine: LlamaCppSettings
    ) -> FileModel:
        """The model as far as it is known before its files are pinned."""
        files = tuple(ModelFile(file.path, file.size_bytes, file.sha256 or "") for file in candidate.files)
        artifact = Artifact(
            candidate.quant,
            files,
            repo=listing.repo,
            revision=listing.revision,
            root=listing.root,
            builtin=listing.builtin,
        )
        if header is None:
            return FileModel(name, artifact)
        key = (id(header), repr(engine))  # headers are kept in `_read`
        if key not in self._known:
            self._known[key] = footprints_of(header, engine), facts_of(header)
        return FileModel(name, artifact, *self._known[key])

    def survey(self) -> Survey:
        """What the spec asks for; raises nothing."""
        exams, folders = asked_exams(self.spec, self.base_dir, self.problem, local=self.local)
        cells: list[SurveyedCell] = []
        left_out: list[tuple[Cell, str]] = []
        asked_before: dict[str, Cell] = {}
        for number, model in enumerate(self.spec.models):
            variants: list[VariantSpec | None] = [*model.variants] or [None]
            ways = [self._way(number, at, model, each) for at, each in enumerate(variants)]
            if any(isinstance(engine, EndpointSettings) for _, engine, _ in ways):
                elsewhere = self._at_endpoints(number, model, ways)
                self._refuse_twins(elsewhere, asked_before)
                for each in elsewhere:
                    cells += self._sort_out([each], by_name=True)[0]
                continue
            listing = self._listing(number, model)
            candidates = self._candidates(number, model, listing) if listing else ()
            headers = self._headers(listing, candidates) if listing and candidates else {}
            for variant, engine, sampling in ways:
                if not isinstance(engine, LlamaCppSettings):
                    continue
                self._check_room(engine, sampling, exams, model.name)
                self._check_reasoning(engine, model)
                if listing is None:
                    continue
                self._check_trained(engine, model.name, headers)
                asked = []
                for candidate in candidates:
                    header = headers.get(candidate.quant)
                    found = self._unpinned(model.name, listing, candidate, header, engine)
                    cell = Cell("", found, variant.name if variant else "", engine, sampling)
                    if header is not None and (settled := self._offloading.settled(cell, engine, header)) != engine:
                        found = self._unpinned(model.name, listing, candidate, header, settled)
                        cell = replace(cell, model=found, engine=settled)
                    asked.append(SurveyedCell(number, listing, candidate, found, cell))
                self._refuse_twins(asked, asked_before)
                kept, without = self._sort_out(asked, by_name=not isinstance(model.quants, str))
                cells += kept
                left_out += without
        return Survey(
            exams, tuple(cells), tuple(left_out), self.problems, self.warnings, tuple(self._unreached), folders
        )

    def _refuse_twins(self, asked: list[SurveyedCell], before: dict[str, Cell]) -> None:
        """Notes cells that would be run twice under two names; `before` has those of other models and variants."""
        for each in asked:
            identity = cell_identity(each.model, each.cell.engine, each.cell.sampling)
            if isinstance(each.model, FileModel):  # nothing is hashed yet
                artifact = each.model.artifact
                files = [artifact.repo or artifact.builtin or artifact.root, *(file.path for file in artifact.files)]
                identity |= {"model": files}
            key = digest(identity)
            if (twin := before.setdefault(key, each.cell)) is not each.cell:
                self.problem(twins(each.cell, twin), "models", each.number)

    def _at_endpoints(self, number: int, model: ModelSpec, ways: Sequence[Way]) -> list[SurveyedCell]:
        """The cells of a model that somebody else serves: its `source` is what the provider calls it."""
        if "quants" in model.model_fields_set:
            text = f"model {model.name!r} is asked of a server that is not ours, which has no files; leave quants out"
            self.problem(text, "models", number, "quants")
        found = []
        for at, (variant, engine, sampling) in enumerate(ways):
            if engine is None:
                continue
            if not isinstance(engine, EndpointSettings):
                text = (
                    f"{engine.kind} loads files, and other variants of model {model.name!r} are asked of a server that "
                    "is not ours: its source cannot be both; give one of them an entry in [[models]] of its own"
                )
                self.problem(text, "models", number, "variants", at)
                continue
            limits = engine.concurrency, engine.requests_per_minute
            if self._limits.setdefault(engine.provider, limits) != limits:
                text = (
                    f"model {model.name!r} is asked with other limits than another one of {engine.provider}, whose "
                    "limits they are: give concurrency and requests_per_minute once, under [engine]"
                )
                self.problem(text, "models", number)
            if (endpoint := self._endpoint_model(number, model, engine)) is None:
                continue
            cell = Cell("", endpoint, variant.name if variant else "", engine, sampling)
            found.append(SurveyedCell(number, None, None, endpoint, cell))
        return found

    def _endpoint_model(self, number: int, model: ModelSpec, engine: EndpointSettings) -> EndpointModel | None:
        """The model as its provider has it, with the digests of its files where that tells them."""
        from runners.engines import get_endpoint_engine

        identify = getattr(get_endpoint_engine(engine.kind), "identify", None)
        if identify is None:
            return EndpointModel(model.name, engine.provider, model.source)
        try:
            return EndpointModel(model.name, engine.provider, model.source, *identify(model.source, engine))
        except RunnersError as error:
            self.problem(one_line(error), "models", number, "source")
            return None

    def _is_planned(self, cell: Cell) -> bool:
        """Whether an earlier plan of the sweep has the cell: that something else uses the memory now takes nothing out
        of a sweep that grows.
        """
        settings = cell.engine.comparable()
        return any(each.label == cell.label and each.engine.comparable() == settings for each in self._earlier)

    def _sort_out(
        self, asked: list[SurveyedCell], *, by_name: bool
    ) -> tuple[list[SurveyedCell], list[tuple[Cell, str]]]:
        """What can be run here, and what is too big. That is a problem where it was asked for by name, or is all."""
        if not self.local:
            return asked, []
        for each in asked[:1]:  # they share the engine's settings
            if (why := self._here.why_not_served(each.cell)) is not None:
                self.problem(why, "engine")
                return asked, []
        reasons = [(each, None if self._is_planned(each.cell) else self._here.too_big(each.cell)) for each in asked]
        kept = [each for each, reason in reasons if reason is None]
        left_out = [(each, reason) for each, reason in reasons if reason is not None]
        if not by_name and kept:
            return kept, [(each.cell, reason) for each, reason in left_out]
        for each, reason in left_out if by_name else left_out[:1]:
            nearest = self._here.nearest_that_fits(each.cell, each.listing) if each.listing is not None else None
            way_out = f"the nearest that fits is {nearest!r}" if nearest else "no smaller quant of it fits either"
            message = f"{each.cell.label!r} does not fit this machine ({reason}); {way_out}"
            self.problem(message, "models", each.number, "quants")
        return kept, []


def twins(cell: Cell, other: Cell) -> str:
    """What is wrong with two cells that are the same but for their names."""
    what = "file" if isinstance(cell.model, FileModel) else "model of the same provider"
    return (
        f"{cell.label!r} is the same {what} with the same settings as {other.label!r}; "
        "its jobs would be run twice under two names"
    )


def survey(
    spec: SweepSpec,
    *,
    file: str,
    text: str,
    base_dir: Path,
    local: bool = True,
    machines: Machines | None = None,
    earlier: Iterable[Cell] = (),
    may_lack: bool = False,
) -> Survey:
    """What `spec` asks for, with verdicts for this machine if it is to run on it alone (`local`).

    `machines` gives the profiles of the machines that may serve it, None for this one; `earlier` has the cells of the
    run of this sweep, if there is one. With `may_lack` a Hub that cannot be asked is no problem.

    Raises:
        SpecError: lists everything that does not work out.
    """
    surveyor = Surveyor(
        spec,
        file=file,
        text=text,
        base_dir=base_dir,
        local=local,
        machines=machines,
        earlier=earlier,
        may_lack=may_lack,
    )
    found = surveyor.survey()
    if found.problems:
        raise SpecError(file, found.problems)
    return found
