"""One attempt as a row of the results table: identity, timings, memory, grade and texts put together.

Pure: everything measured comes in as values. The columns are documented in `results.schema`.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from profiles.bus import is_impossible
from quants.models import EndpointModel
from runners.ceiling import decode_ceiling_tps
from runners.engines.settings import LlamaCppSettings
from runners.exams.transcript import transcript_json
from runners.files import files_json
from runners.outcomes import Outcome, outcome_class

if TYPE_CHECKING:
    from datetime import datetime

    from profiles.samples import Samples
    from quants.models import Model
    from runners.chat import ChatResult, Sampling
    from runners.engines.base import BufferSizes, Served
    from runners.engines.llama_told import ServedSettings
    from runners.exams.base import Grade
    from runners.orders import JobOrder, NodeFacts, Place
    from runners.solving import Solved
    from runners.timing import Timing
    from runners.work import Cell

DEFAULT_VARIANT = "default"
NO_QUANT = "none"
# Column to the sampler's name for the figure.
_PEAKS = {
    "peak_ram_bytes": "peak_ram_bytes",
    "peak_ram_anon_bytes": "peak_pss_anon_bytes",
    "peak_ram_file_bytes": "peak_pss_file_bytes",
    "peak_gtt_bytes": "peak_gtt_bytes",
    "peak_vram_bytes": "peak_vram_bytes",
}
_FACTS = ("architecture", "parameters", "parameters_active", "bits_per_weight")
_AXES = ("cache_type_k", "cache_type_v", "threads", "gpu_layers", "cpu_moe_layers", "reasoning_budget")
_TIMING_COLUMNS = (
    "ttft_any_s",
    "ttft_answer_s",
    "prompt_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "answer_tokens",
    "prefill_tps",
    "decode_tps",
    "decode_tps_client",
    "itl_p50_s",
    "itl_p95_s",
    "itl_p99_s",
    "e2e_s",
    "draft_accept_rate",
)


def compact_json(value: Any) -> str:
    """The one form of JSON that rows hold."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _set(sampling: Sampling) -> dict[str, Any]:
    return {key: value for key, value in asdict(sampling).items() if value is not None}


def identity_columns(
    sweep: str, cell: Cell, job: JobOrder, *, run_id: str, scoring: str | None, node: NodeFacts, place: Place
) -> dict[str, Any]:
    """What was run, on what file or endpoint, with which settings, where: known before anything happens."""
    return {
        "run_id": run_id,
        "sweep": sweep,
        "job_id": job.job_id,
        "attempt": job.attempt,
        "model": cell.model.name,
        "quant": cell.model.quant or NO_QUANT,
        "variant": cell.variant or DEFAULT_VARIANT,
        "exam": job.exam,
        "task": job.task,
        "prompt_version": job.prompt_version,
        "seed": job.seed,
        "sampling": compact_json(_set(cell.sampling)),
        **_file_columns(cell.model),
        **_axis_columns(cell, place),
        "engine": cell.engine.kind,
        "engine_settings": compact_json(cell.engine.comparable()),
        "load_mode": _load_mode(cell),
        "predicted_bytes": place.predicted_bytes,
        "scoring": scoring,
        "node": node.hostname,
        "os": node.os,
        "cpu": node.cpu,
        "ram_bytes": node.ram_bytes,
        "device_memory_bytes": place.memory_bytes,
        "device": place.place_id,
        "devices": len(place.devices),
        "backend": place.backend,
        "engine_device": place.engine_device,
        "device_match": place.device_match,
        "unmatched_devices": compact_json(list(place.unmatched)),
        "hardware_class": place.hardware_class,
        "governor": node.governor,
        "platform_profile": node.platform_profile,
        "driver": _driver(node, place),
        "quantsweep_version": version("quantsweep"),
    }


def unknown_of_node(node: NodeFacts) -> dict[str, str]:
    """Why columns are null that the node could not fill."""
    reasons = {
        "governor": "this machine tells no CPU frequency governor (a virtual machine?)",
        "platform_profile": "its firmware has none",
    }
    return {name: why for name, why in reasons.items() if getattr(node, name) is None}


_OF_FILES = ("repo", "revision", "file_paths", "file_sha256", "file_bytes", "load_mode", "cold", *_FACTS)
_OF_DEVICES = (
    *("predicted_bytes", "device_memory_bytes", "backend", "engine_device", "driver"),
    *(f"buffer_{kind}_bytes" for kind in ("model", "kv", "compute", "output", "state")),
    *(*_PEAKS, "energy_j", "mean_power_w", "temperature_c", "clock_mhz", "throttle_reasons", "foreign_cpu_share"),
)


def unknown_of_model(model: Model) -> dict[str, str]:
    """Why columns are null that only a model can fill whose files and devices are ours."""
    if not isinstance(model, EndpointModel):
        return {}
    where = f"served elsewhere ({model.source})"
    return (
        dict.fromkeys(_OF_FILES, f"{where}: no file of it is known")
        | dict.fromkeys(_OF_DEVICES, f"{where}: on no device of this machine")
        | {"load_s": f"{where}: nothing is loaded for us"}
    )


def _driver(node: NodeFacts, place: Place) -> str | None:
    """The drivers of the devices; of equal cards it is one."""
    found = [node.drivers.get(device) for device in place.devices]
    return None if not found or None in found else " + ".join(dict.fromkeys(each for each in found if each))


def _file_columns(model: Model) -> dict[str, Any]:
    if isinstance(model, EndpointModel):
        return {
            "provider": model.provider,
            "provider_model": model.model_id,
            "file_sha256": model.blob_sha256 or None,
        }
    artifact = model.artifact
    return {
        "repo": artifact.repo,
        "revision": artifact.revision,
        "file_paths": [file.path for file in artifact.files],
        "file_sha256": artifact.sha256,
        "file_bytes": artifact.file_bytes,
        **({} if model.facts is None else {name: getattr(model.facts, name) for name in _FACTS}),
    }


def _axis_columns(cell: Cell, place: Place) -> dict[str, Any]:
    """What sweeps are made along, each as a column of its own."""
    engine = cell.engine
    if not isinstance(engine, LlamaCppSettings):
        return {}
    return {
        **{name: getattr(engine, name) for name in _AXES},
        "reasoning_mode": engine.reasoning,
        "split_mode": None if place.tensor_split is None else engine.split_mode or "layer",
        "tensor_split": None if place.tensor_split is None else compact_json(list(place.tensor_split)),
        "offload": None if place.backend == "cpu" else _offload(engine),
    }


def _offload(engine: LlamaCppSettings) -> str:
    """What of the model was to stay in host memory although there is a GPU."""
    parts = ["experts"] if engine.cpu_moe_layers else []
    parts += ["layers"] if engine.gpu_layers is not None else []
    return "+".join(parts) or "none"


def _load_mode(cell: Cell) -> str | None:
    if not isinstance(cell.engine, LlamaCppSettings):
        return None
    return "mmap" if cell.engine.mmap else "read"


def _buffer_columns(buffers: BufferSizes | None) -> dict[str, Any]:
    kinds = {"model": "model", "kv": "kv", "compute": "compute", "output": "output", "state": "recurrent"}
    found = {column: getattr(buffers, f"{kind}_bytes", None) for column, kind in kinds.items()}
    return {f"buffer_{column}_bytes": sum(by.values()) if by else None for column, by in found.items()}


def server_columns(served: Served, *, cold: bool | None) -> dict[str, Any]:
    """What is known of the loaded model."""
    return {
        "engine_build": served.engine_build,
        "context": served.context,
        "load_s": served.load_s or None,  # an endpoint that is asked loads nothing for it
        "cold": cold,
        **_buffer_columns(served.buffers),
        **_told_columns(served.told),
    }


def _told_columns(told: ServedSettings | None) -> dict[str, Any]:
    """What the server says that it serves with; what it says in place of what it was told, where it says it."""
    if told is None:
        return {}
    flash = None if told.flash_attention is None else "on" if told.flash_attention else "off"
    in_place = {name: getattr(told, name) for name in ("cache_type_k", "cache_type_v", "load_mode")}
    return {
        "slots": told.slots,
        "flash_attention": flash,
        "layers": told.layers,
        "layers_on_gpu": told.layers_on_gpu,
        "deviations": compact_json(list(told.deviations)),
        **{name: value for name, value in in_place.items() if value is not None},
    }


def timing_columns(timing: Timing, reasons: dict[str, str]) -> dict[str, Any]:
    """The timing's figures under their columns; why one is null goes into `reasons`."""
    columns = {name: getattr(timing, name) for name in _TIMING_COLUMNS}
    reasons.update({name: why for name, why in timing.reasons.items() if name in columns and columns[name] is None})
    return columns


def ceiling_columns(
    cell: Cell, place: Place, *, prompt_tokens: int | None, rate: float | None, reasons: dict[str, str]
) -> dict[str, Any]:
    """The highest decode rate that the device can have with the model, and whether the measured `rate` is above it.

    Why there is none goes into `reasons`.
    """
    found = decode_ceiling_tps(cell, place, prompt_tokens)
    if isinstance(found, str):
        reasons["decode_ceiling_tps"] = found
        return {"decode_ceiling_tps": None}
    return {"decode_ceiling_tps": found, "above_ceiling": None if rate is None else is_impossible(rate, found)}


def reply_columns(result: ChatResult, *, provided: bool = False) -> dict[str, Any]:
    """The answer itself, how it ended and what came over the wire; `provided` by somebody else's server."""
    kinds = Counter(event.kind for event in result.events)
    summary = {
        "counts": dict(kinds),
        "bytes": sum(event.size_bytes for event in result.events),
        "warnings": list(result.warnings),
    }
    return {
        "reply": result.text,
        "reasoning": result.reasoning or None,
        "finish_reason": result.finish_reason,
        "provider_version": result.model if provided else None,
        "token_count_source": "server" if result.timings or result.usage else None,
        "events": compact_json(summary),
    }


def turn_columns(solved: Solved, reasons: dict[str, str]) -> dict[str, Any]:
    """How many requests the solve took, each one's figures, and what was said where one reply does not say it all."""
    from runners.turns import turn_figures

    says_more = len(solved.turns) > 1 or any(turn.reply.tool_calls for turn in solved.turns)
    if not says_more:
        reasons["transcript"] = "there was one turn: its reply says it all"
    return {
        "turns": len(solved.turns),
        "turn_timings": compact_json(turn_figures(solved.results)),
        "transcript": transcript_json(solved.turns) if says_more else None,
    }


def sample_columns(
    load: Samples | None,
    job: Samples | None,
    reasons: dict[str, str],
    *,
    on_gpu_bytes: int | None = None,
    reported_vram_bytes: int | None = None,
) -> dict[str, Any]:
    """Memory as the peak since the server was started, load included; energy and state over the request alone.

    A peak on the GPU below `on_gpu_bytes`, what the engine's log says it allocated there, is of another card or of a
    counter that leaves something out: it is no measurement.
    """
    windows = [samples for samples in (load, job) if samples is not None]
    columns: dict[str, Any] = {}
    for column, name in _PEAKS.items():
        known = [samples for samples in windows if getattr(samples, name) is not None]
        columns[column] = max((getattr(samples, name) for samples in known), default=None)
        if column in {"peak_ram_bytes", "peak_vram_bytes"}:
            columns[column.replace("_bytes", "_source")] = known[-1].sources.get(name) if known else None
        if not known and windows and name in windows[-1].reasons:
            reasons[column] = windows[-1].reasons[name]
    peak = columns["peak_vram_bytes"]
    if peak is not None and on_gpu_bytes is not None and peak + (columns["peak_gtt_bytes"] or 0) < on_gpu_bytes:
        source = columns["peak_vram_source"]
        reasons["peak_vram_bytes"] = f"{peak:,} bytes by {source}, less than the {on_gpu_bytes:,} in the engine's log"
        columns |= {"peak_vram_bytes": None, "peak_vram_source": None}
    if peak is None and reported_vram_bytes is not None:
        columns |= {"peak_vram_bytes": reported_vram_bytes, "peak_vram_source": "the server's own word"}
    if job is None:
        return columns
    clock_hz = job.clock_core_hz
    columns |= {
        "energy_j": job.energy_j,
        "mean_power_w": job.mean_power_w,
        "temperature_c": job.temperature_c,
        "clock_mhz": clock_hz / 1e6 if clock_hz is not None else None,
        "foreign_cpu_share": job.foreign_cpu_share,
        "throttle_reasons": None if job.throttle_reasons is None else compact_json(list(job.throttle_reasons)),
    }
    given = {"clock_mhz": "clock_core_hz"}
    for column, value in columns.items():
        if value is None and (why := job.reasons.get(given.get(column, column))):
            reasons[column] = why
    return columns


def grade_columns(grade: Grade, scoring: str, grade_s: float) -> dict[str, Any]:
    """The score by the sweep's scoring, and all that it is made of."""
    return {
        "score": grade.scores[scoring],
        "score_max": grade.score_max,
        "scores": compact_json(grade.scores),
        "grade_items": compact_json([asdict(item) for item in grade.items]),
        "grader_log": grade.log,
        "extraction": grade.extraction_method,
        "isolation": grade.isolation or None,
        "grade_s": grade_s,
        "files": files_json(grade.files),
        **outcome_columns(grade.outcome),
    }


def outcome_columns(outcome: Outcome, error: str | None = None) -> dict[str, Any]:
    """The outcome, whose doing it was, and the sentence a person reads."""
    return {"outcome": outcome.value, "outcome_class": outcome_class(outcome).value, "error": error}


def unscored_columns(outcome: Outcome, error: str, *, score_max: float) -> dict[str, Any]:
    """An attempt without a grade: 0 where the model or the budget ended it, null where the infrastructure failed."""
    columns = outcome_columns(outcome, error)
    columns["score_max"] = score_max
    columns["score"] = None if columns["outcome_class"] == "infrastructure" else 0.0
    return columns


def unrun_row(identity: dict[str, Any], *, outcome: Outcome, error: str, at: datetime) -> dict[str, Any]:
    """The row of a job that never got to run, from its `identity_columns`."""
    return {
        **identity,
        **outcome_columns(outcome, error),
        "started_at": at.isoformat(),
        "ended_at": at.isoformat(),
    }


def finish(row: dict[str, Any], reasons: dict[str, str], *, started: datetime, ended: datetime) -> dict[str, Any]:
    """The row with its times, and the reasons for what is null."""
    kept = {name: why for name, why in reasons.items() if row.get(name) is None}
    return {
        **row,
        "null_reasons": compact_json(kept) if kept else None,
        "started_at": started.isoformat(),
        "ended_at": ended.isoformat(),
    }
