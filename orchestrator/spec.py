"""The sweep spec: what a person writes in TOML, validated, with every problem named by line and key.

Only shapes and values are judged here. What needs the outside (does the model exist, does the exam) is
`orchestrator.plan`'s.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from orchestrator.errors import MOST_PROBLEMS, Problem, SpecError
from orchestrator.spec_endpoints import EndpointKeys
from orchestrator.spec_values import impossible_values, key_of
from profiles.toml_lines import LineIndex, line_of_dotted_key
from results.contest import Rule

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
MOST_DEVICES = 16  # llama.cpp's own limit (GGML_CUDA_MAX_DEVICES)
DEFAULT_MARGIN = 5.0
"""Points of a hundred by which a cell may be worse than the best of its model and count as equivalent."""
MAX_SEED = 2**32 - 1  # llama.cpp keeps seeds in 32 bits; the largest value means "random" there
_Path: TypeAlias = tuple[str | int, ...]
MOST_AUTO_SEEDS = 10_000
_AUTO_SEEDS = re.compile(r"\s*auto\s*:\s*([0-9]{1,5})\s*-\s*([0-9]{1,5})\s*")
_SEED_RANGE = re.compile(r"\s*([0-9]{1,10})\s*-\s*([0-9]{1,10})\s*")  # a seed has no more digits
INT_MAX = 2**31 - 1  # engines keep these settings in 32 bits

_SHORT = 64
"""Characters of a text that is shown whole."""


def _expand_seeds(value: Any) -> Any:
    """`"1-30"` is thirty seeds; a list stays a list, whose items may be ranges too; `"auto:5-60"` is 1 to 60."""
    if isinstance(value, str) and value.strip().startswith("auto"):
        return list(range(1, _auto_seeds(value)[1] + 1))
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        as_many = value if isinstance(value, int) and not isinstance(value, bool) and 1 < value < 100_000 else 5
        msg = f'must be a range such as "1-{as_many}", or a list such as [1, 2, 3] (here: {value!r})'
        raise ValueError(msg)  # noqa: TRY004 -- pydantic makes a problem of the spec of this kind only
    seeds: list[Any] = []
    for item in value:
        if isinstance(item, str) and (match := _SEED_RANGE.fullmatch(item)):
            first, last = int(match[1]), int(match[2])
            if last < first or last - first >= 100_000:
                msg = f"the range {item!r} is empty or longer than 100,000 seeds"
                raise ValueError(msg)
            seeds.extend(range(first, last + 1))
        elif isinstance(item, str):
            shown = item if len(item) <= _SHORT else f"{item[:_SHORT]}..."
            msg = f'{shown!r} is no range of seeds, such as "1-5", of numbers below {MAX_SEED:,}'
            raise ValueError(msg)
        else:
            seeds.append(item)
    return seeds


def _auto_seeds(text: str) -> tuple[int, int]:
    """The least and the most seeds of `"auto:5-60"`."""
    match = _AUTO_SEEDS.fullmatch(text)
    least, most = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 2 <= least <= most <= MOST_AUTO_SEEDS:
        shown = text if len(text) <= _SHORT else f"{text[:_SHORT]}..."
        msg = (
            f'must be "auto:5-60": 5 seeds at least (2 or more) and 60 at most ({MOST_AUTO_SEEDS:,}) (here: {shown!r})'
        )
        raise ValueError(msg)
    return least, most


def _quant_names(value: Any) -> Any:
    """Judges the whole value here: a union of a list and a word makes two complaints of one mistake."""
    names = value if isinstance(value, list) else []
    if value in ("all", "fitting") or (names and all(isinstance(name, str) and name for name in names)):
        return value
    if value == []:
        msg = "is empty; it needs at least one entry"
    else:
        msg = f'must be a list of quants, such as ["Q4_K_M", "Q8_0"], or "all", or "fitting" (here: {value!r})'
    raise ValueError(msg)


def _device_count(value: Any) -> Any:
    """Judges the whole value here: a union of a number and a word makes two complaints of one mistake."""
    if value == "all" or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_DEVICES):
        return value
    msg = f'must be a number of GPUs from 1 to {MOST_DEVICES}, or "all" (here: {value!r})'
    raise ValueError(msg)


def _acceptable(arguments: list[str]) -> list[str]:
    from runners.engines.own_args import OwnArgumentError, refuse_own
    from runners.engines.secret_args import SecretArgumentError, refuse_secrets

    try:
        refuse_secrets(arguments)
        refuse_own(arguments)
    except (SecretArgumentError, OwnArgumentError) as error:
        raise ValueError(f"{error.message}; {error.hint}") from None
    return arguments


def _without_secret(source: str) -> str:
    from quants.secrets import holds_secret

    if holds_secret(source):
        msg = "holds a secret, which the plan would show; take it out: the Hub's token is that of `hf auth login`"
        raise ValueError(msg)
    return source


def _at_home(text: str) -> str:
    """Refuses a path below a home folder that is not known here, where it is told with line and key."""
    from profiles.homes import UnknownHomeError, expanded

    try:
        expanded(text)
    except UnknownHomeError as error:
        raise ValueError(str(error)) from None
    return text


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


_Share = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=False)]


class SamplingSpec(_Strict):
    """How tokens are drawn. `max_tokens` caps reasoning and answer together."""

    temperature: Annotated[float, Field(ge=0, le=5, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=INT_MAX)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Field(gt=0, le=5)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=INT_MAX)] | None = None


class EngineSpec(EndpointKeys):
    """What serves the tokens and how. Anything left out takes the engine's documented default."""

    kind: str | None = None
    context: Annotated[int, Field(ge=64, le=INT_MAX)] | None = None
    slots: Annotated[int, Field(ge=1, le=256)] | None = None
    gpu_layers: Annotated[int, Field(ge=0, le=INT_MAX)] | None = None
    cpu_moe_layers: Annotated[int, Field(ge=0, le=INT_MAX)] | None = None
    devices: Annotated[int | Literal["all"], BeforeValidator(_device_count)] | None = None
    split_mode: Literal["layer", "row"] | None = None
    tensor_split: Annotated[list[_Share], Field(min_length=2, max_length=MOST_DEVICES)] | None = None
    offload: Literal["never", "auto", "experts"] | None = None
    threads: Annotated[int, Field(ge=1, le=INT_MAX)] | None = None
    cache_type_k: Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"] | None = None
    cache_type_v: Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"] | None = None
    flash_attention: Literal["auto", "on", "off"] | None = None
    batch: Annotated[int, Field(ge=1, le=INT_MAX)] | None = None
    ubatch: Annotated[int, Field(ge=1, le=INT_MAX)] | None = None
    mmap: bool | None = None
    swa_full: bool | None = None
    reasoning: Literal["auto", "on", "off"] | None = None
    reasoning_budget: Annotated[int, Field(ge=0, le=INT_MAX)] | None = None
    binary: Annotated[str, AfterValidator(_at_home)] | None = None
    chat_template: Annotated[str, Field(min_length=1), AfterValidator(_at_home)] | None = None
    grammar: Annotated[str, Field(min_length=1), AfterValidator(_at_home)] | None = None
    extra_args: Annotated[list[str], AfterValidator(_acceptable)] | None = None


class VariantSpec(_Strict):
    """One way of running the same file: engine and sampling settings that differ from the model's."""

    name: Name
    engine: EngineSpec = EngineSpec()
    sampling: SamplingSpec = SamplingSpec()
    reasoning: Literal["auto", "on", "off"] | None = None


class ModelSpec(_Strict):
    """A model: where its files are, which quants of it, and what it overrides."""

    name: Name
    source: Annotated[str, Field(min_length=1), AfterValidator(_without_secret), AfterValidator(_at_home)]
    quants: Annotated[list[str] | Literal["all", "fitting"], BeforeValidator(_quant_names)] = "all"
    engine: EngineSpec = EngineSpec()
    sampling: SamplingSpec = SamplingSpec()
    variants: list[VariantSpec] = []


class LimitsSpec(_Strict):
    """When to give up. None of these is part of a job's identity: they do not change what a model answers."""

    load_timeout_s: Annotated[float, Field(gt=0, strict=False)] = 600.0
    generation_timeout_s: Annotated[float, Field(gt=0, strict=False)] = 1800.0
    retries: Annotated[int, Field(ge=0, le=10)] = 2


class _TwiceError(ValueError):
    """What may stand once stands twice; `path` is that of the second."""

    def __init__(self, what: str, repeated: Sequence[int | str], path: _Path) -> None:
        shown = ", ".join([*map(str, repeated[:MOST_NAMED]), *(["..."] if len(repeated) > MOST_NAMED else [])])
        super().__init__(f"the same {what} stands here twice: {shown}; every {what} must be unique")
        self.path = path


class _MarginError(ValueError):
    """A margin without seeds that depend on it."""

    def __init__(self) -> None:
        super().__init__('is for seeds that depend on the scores, such as seeds = "auto:5-60"; here all cells get all')


class SweepSpec(_Strict):
    """A whole spec. Order of precedence for settings: variant, model, sweep, default."""

    name: Name
    description: str | None = None
    seeds: Annotated[
        list[Annotated[int, Field(ge=0, lt=MAX_SEED)]], Field(min_length=1), BeforeValidator(_expand_seeds)
    ]
    margin: Annotated[float, Field(ge=0.1, le=40, allow_inf_nan=False, strict=False)] | None = None
    exams: Annotated[list[str], Field(min_length=1)]
    scoring: str | None = None
    overlap_grading: Literal["auto", "always", "never"] = "auto"
    sampling: SamplingSpec = SamplingSpec()
    engine: EngineSpec = EngineSpec()
    limits: LimitsSpec = LimitsSpec()
    models: Annotated[list[ModelSpec], Field(min_length=1)]
    _first_seeds: int | None = PrivateAttr(None)

    @property
    def seeding(self) -> Rule | None:
        """How many of the seeds each cell gets, by its scores; None where it gets all of them."""
        if self._first_seeds is None:
            return None
        return Rule(self._first_seeds, len(self.seeds), (DEFAULT_MARGIN if self.margin is None else self.margin) / 100)

    @model_validator(mode="wrap")
    @classmethod
    def _remember_first_seeds(cls, data: Any, handler: ModelWrapValidatorHandler[SweepSpec]) -> SweepSpec:
        spec = handler(data)
        given = data.get("seeds") if isinstance(data, dict) else None
        if isinstance(given, str) and _AUTO_SEEDS.fullmatch(given):
            spec._first_seeds = _auto_seeds(given)[0]  # noqa: SLF001 -- of this very class
        elif spec.margin is not None:
            raise _MarginError
        return spec

    @model_validator(mode="after")
    def _nothing_twice(self) -> Self:
        lists: list[tuple[str, _Path, Sequence[int | str], _Path]] = [
            ("seed", ("seeds",), self.seeds, ()),
            ("exam", ("exams",), self.exams, ()),
            ("model name", ("models",), [model.name for model in self.models], ("name",)),
        ]
        for number, model in enumerate(self.models):
            path: _Path = ("models", number)
            names = [variant.name for variant in model.variants]
            lists.append((f"variant name in model {model.name!r}", (*path, "variants"), names, ("name",)))
            if not isinstance(model.quants, str):
                lists.append((f"quant in model {model.name!r}", (*path, "quants"), model.quants, ()))
        for what, place, values, key in lists:
            repeated = [value for value, times in Counter(values).items() if times > 1]
            if repeated:
                second = [number for number, value in enumerate(values) if value == repeated[0]][1]
                raise _TwiceError(what, repeated, (*place, second, *key))
        return self


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model inside an annotation such as `list[ModelSpec]`, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_of(arg))), None)


def _keys_at(path: tuple[str | int, ...]) -> list[str]:
    """The keys that may stand in the table at `path`."""
    model: type[BaseModel] = SweepSpec
    for part in path:
        if isinstance(part, str):
            field = model.model_fields.get(part)
            inner = _model_of(field.annotation) if field else None
            if inner is None:
                return []
            model = inner
    return list(model.model_fields)


_PLAIN = {
    "missing": "is missing",
    "too_short": "is empty; it needs at least one entry",
    "string_too_short": "is empty",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "string_type": 'must be text in quotes, such as "name"',
    "bool_type": "must be true or false",
    "list_type": "must be a list, such as [1, 2, 3]",
    "model_type": "must be a table, such as { key = value }",
}


_BEGINNING = {"name": 'name = "my-sweep"', "seeds": 'seeds = "1-5"', "exams": 'exams = ["todo"]'}


def _missing(path: _Path, key: str | None, index: LineIndex) -> Problem:
    """What is not there, with the line of what it belongs to; of the file itself, the one where it could stand."""
    if path == ("models",):
        return Problem("is missing: a [[models]] table with a name and a source, for each model", key, index.last)
    if len(path) == 1:
        example = _BEGINNING.get(str(path[0]))
        return Problem("is missing" + (f": {example}, above all tables" if example else ""), key, 1)
    return Problem("is missing", key, index.line(path[:-1]))


def _is_key(part: str | int) -> bool:
    """Whether a part of pydantic's path is one of the file too; an unknown key, which may be anything, is its last."""
    if isinstance(part, int):
        return True
    return part not in {"function-before", "list", "literal"} and re.fullmatch(r"[A-Za-z0-9_.-]+", part) is not None


def _problem(error: Any, index: LineIndex) -> Problem:
    """One pydantic error in our words, with key and line."""
    kind = error["type"]
    # Members of unions put the branch's name into the path; only real keys and indexes help a reader.
    *inner, last = error["loc"] or ("",)
    path = tuple(part for part in inner if _is_key(part)) + (
        (last,) if kind == "extra_forbidden" or _is_key(last) else ()
    )
    key = key_of(path)
    if kind == "extra_forbidden":
        allowed = _keys_at(path[:-1])
        close = difflib.get_close_matches(str(path[-1]), allowed, n=1, cutoff=0.5)
        suggestion = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(allowed)}"
        return Problem(f"unknown key; {suggestion}", key, index.line(path))
    if kind == "missing":
        return _missing(path, key, index)
    if kind == "value_error":
        if isinstance(twice := error["ctx"]["error"], _TwiceError):
            return Problem(str(twice), None, index.line(twice.path))
        if isinstance(error["ctx"]["error"], _MarginError):
            return Problem(str(error["ctx"]["error"]), "margin", index.line(("margin",)))
        return Problem(str(error["ctx"]["error"]), key, index.line(path))
    if kind == "string_pattern_mismatch":
        text = f"{error['input']!r} must be 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
        return Problem(text, key, index.line(path))
    text = _PLAIN.get(kind) or error["msg"][0].lower() + error["msg"][1:]
    given = error["input"]
    if kind == "list_type" and path[-1:] in {("models",), ("variants",)}:
        text = f"must be tables, each under [[{'.'.join(part for part in path if isinstance(part, str))}]]"
    elif kind == "list_type" and isinstance(given, str) and len(given) <= _SHORT:
        text = f"must be a list, such as {json.dumps([given], ensure_ascii=False)}"
    if not isinstance(given, dict | list) and kind != "missing":
        text += f" (here: {given!r})"
    return Problem(text, key, index.line(path))


_DIGITS = re.compile(r"[0-9][0-9_]*+")
MOST_DIGITS = 4000  # Python's own limit is a little more
MOST_CHARACTERS = 1_000_000
MOST_NAMED = 20
MOST_DOTS = 100


def _longest_number(line: str) -> int:
    """How many digits the longest number in a line has."""
    return max((len(number.replace("_", "")) for number in _DIGITS.findall(line)), default=0)


def parse_spec(text: str, file: str) -> SweepSpec:
    """Parses and validates `text`; raises `SpecError`, which lists every problem, on anything wrong with it."""
    _check_size(text, file)
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise SpecError(file, [Problem("its tables and lists are nested too deeply")]) from None
    except ValueError as error:  # TOMLDecodeError, and Python's own for numbers of thousands of digits
        if "integer string conversion" in str(error):
            line = next((n for n, each in enumerate(text.splitlines(), 1) if _longest_number(each) > MOST_DIGITS), None)
            raise SpecError(file, [Problem("a number has more than 4300 digits", None, line)]) from None
        place = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        message = re.sub(r" \(at [^()]*\)$", "", str(error))
        column = f" (column {place[2]})" if place else ""
        line = int(place[1]) if place else None
        raise SpecError(file, [Problem(f"this is not valid TOML: {message}{column}", None, line)]) from None
    index = LineIndex(text)
    if impossible := list(islice(impossible_values(data, index), MOST_PROBLEMS)):
        raise SpecError(file, impossible)
    try:
        return SweepSpec.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False)
        # Finding the nearest right key for thousands of wrong ones would take minutes.
        problems = [_problem(item, index) for item in found[:MOST_PROBLEMS]]
        more = max(0, len(found) - MOST_PROBLEMS)
        raise SpecError(file, list(dict.fromkeys(problems)), more=more) from None


def _check_size(text: str, file: str) -> None:
    """Refuses what no person wrote: tomllib's time grows with the square of the parts of a dotted key."""
    if len(text) > MOST_CHARACTERS:
        problem = Problem(f"a spec has at most {MOST_CHARACTERS:,} characters, this has {len(text):,}")
        raise SpecError(file, [problem])
    if line := line_of_dotted_key(text, MOST_DOTS):
        raise SpecError(file, [Problem(f"a key has at most {MOST_DOTS} dots", None, line)])


def read_spec(path: Path) -> tuple[SweepSpec, str]:
    """The spec in the file `path`, and its text."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a byte order mark first
    except UnicodeDecodeError as error:
        raise SpecError(str(path), [Problem(f"this is not a text file (byte {error.start} is not UTF-8)")]) from None
    except OSError as error:
        raise SpecError(str(path), [Problem(f"cannot be read: {error.strerror or error}")]) from None
    return parse_spec(text, str(path)), text
