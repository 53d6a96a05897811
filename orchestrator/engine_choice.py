"""The settings of an engine out of the tables of a spec: which kind it is, and which of the keys are that kind's.

A key that stands above the choice of another kind is meant for the other models, and passed over; one that stands
where the kind is chosen, or below, is a mistake if that kind does not have it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias

from orchestrator.errors import one_line
from orchestrator.spec import INT_MAX, EngineSpec
from profiles.homes import expanded
from runners.engines import engine_kinds, settings_type
from runners.engines.settings import LlamaCppSettings, TextFile
from runners.errors import RunnersError

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import BaseModel

    from runners.engines.settings import EngineSettings

KeyPath: TypeAlias = tuple[str | int, ...]
Layer: TypeAlias = tuple[KeyPath, EngineSpec]
"""A table of the spec and where it stands; the later of two wins."""

DEFAULT_CONTEXT = 16384
MOST_TEXT_BYTES = 1 << 20
DEFAULT_CURRENCY = "USD"
_TEXT_KEYS = ("chat_template", "grammar")


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the tables. `kind_path` is where the kind was chosen, `problems` are sentences with their keys."""

    settings: EngineSettings | None
    kind_path: KeyPath
    problems: list[tuple[str, KeyPath]]


def given_values(table: BaseModel) -> dict[str, Any]:
    """The keys of a table of the spec that are set."""
    return {key: item for key, item in table.model_dump().items() if item is not None}


def program_path(base_dir: Path, given: str) -> str:
    """An engine's program as every node is told it: relative to the spec, and absolute from there on."""
    return str((base_dir / expanded(given)).absolute())


def settle(layers: list[Layer], *, base_dir: Path, load_timeout_s: float) -> Settled:
    """The settings that `layers` come to; paths count from `base_dir`."""
    kind, chosen, kind_path = engine_kinds()[0], 0, (*layers[0][0], "kind")
    for number, (path, table) in enumerate(layers):
        if table.kind is not None:
            kind, chosen, kind_path = table.kind, number, (*path, "kind")
    try:
        own = settings_type(kind)
    except RunnersError as error:
        return Settled(None, kind_path, [(one_line(error), kind_path)])
    known = {each.name for each in fields(own)}
    problems: list[tuple[str, KeyPath]] = []
    values: dict[str, Any] = {"load_timeout_s": load_timeout_s}
    if "context" in known:
        values["context"] = DEFAULT_CONTEXT
    where: dict[str, KeyPath] = {}
    for number, (path, table) in enumerate(layers):
        for key, value in given_values(table).items():
            if key in known:
                values[key], where[key] = value, (*path, key)
            elif key != "kind" and number >= chosen:
                others = [name for name in engine_kinds() if key in {each.name for each in fields(settings_type(name))}]
                message = f"the engine {kind!r} has no such setting; it is one of: {', '.join(others)}"
                problems.append((message, (*path, key)))
    if values.get("binary"):
        values["binary"] = program_path(base_dir, values["binary"])
    for key in _TEXT_KEYS:
        if key in values:
            try:
                values[key] = _read_text(base_dir / expanded(values[key]))
            except ValueError as error:
                problems.append((str(error), where[key]))
                del values[key]
    if "extra_args" in values:
        values["extra_args"] = tuple(values["extra_args"])
    for key in ("tensor_split", "omit"):
        if key in values:
            values[key] = tuple(values[key])
    if {"price_in", "price_out"} & values.keys():
        values.setdefault("currency", DEFAULT_CURRENCY)
    problems += [(message, where[key]) for message, key in _contradictions(values)]
    try:
        settings = own(**values)
    except RunnersError as error:
        about = next((path for key, path in where.items() if key in error.message), kind_path)
        return Settled(None, kind_path, [*problems, (one_line(error), about)])
    if (
        isinstance(settings, LlamaCppSettings)
        and settings.cache_type_v not in {"f32", "f16", "bf16"}
        and settings.flash_attention == "off"
    ):
        path = where.get("flash_attention", ("engine", "flash_attention"))
        problems.append(("a quantized V cache needs flash attention, which is off", path))
    return Settled(settings, kind_path, problems)


def _contradictions(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Settings for several GPUs and for offload that cannot be meant together: a sentence and the key it is about."""
    found: list[tuple[str, str]] = []
    devices, split = values.get("devices"), values.get("tensor_split")
    several = devices == "all" or (devices or 1) > 1
    if not several:
        text = "{} says how GPUs share a model; set engine.devices to how many"
        found += [(text.format(key), key) for key in ("split_mode", "tensor_split") if key in values]
    elif split is not None and devices != len(split):
        text = f"it has {len(split)} shares for {devices} devices; set engine.devices = {len(split)}"
        found.append((text, "tensor_split"))
    if several and values.get("gpu_layers") == 0:
        found.append(("gpu_layers = 0 computes on the CPU, which takes no GPU; leave one of the two out", "devices"))
    if values.get("context", 0) * values.get("slots", 1) > INT_MAX:
        text = (
            f"{values['slots']} slots of {values['context']:,} tokens are more than an engine can count ({INT_MAX:,})"
        )
        found.append((text, "context"))
    if values.get("offload", "never") != "never":
        text = "offload chooses {} itself; leave one of the two out"
        found += [(text.format(key), "offload") for key in ("gpu_layers", "cpu_moe_layers") if key in values]
    return found


def _read_text(path: Path) -> TextFile:
    """The text that a setting points to; `ValueError` with a sentence if it cannot be had."""
    if path.exists() and not path.is_file():  # a pipe would hold us up for ever
        msg = f"{path} is not a file"
        raise ValueError(msg)
    try:
        with path.open("rb") as file:
            content = file.read(MOST_TEXT_BYTES + 1)
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror or error}"
        raise ValueError(msg) from None
    if len(content) > MOST_TEXT_BYTES:
        msg = f"{path} is larger than {MOST_TEXT_BYTES:,} bytes"
        raise ValueError(msg)
    try:
        return TextFile(str(path), content.decode("utf-8"))
    except UnicodeDecodeError as error:
        msg = f"{path} is not a text file (byte {error.start} is not UTF-8)"
        raise ValueError(msg) from None
