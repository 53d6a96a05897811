"""Reads the table of truths, for tests and the benchmark: needs neither a compiler nor the engine."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from quants.footprint import Backend, Estimator, FootprintSettings
from quants.gguf import TENSOR_TYPES, Header, TensorInfo

TRUTH: Final = Path(__file__).parents[2] / "tests" / "quants" / "truth"
MIB: Final = 1024 * 1024
_CACHE_TYPES: Final = {1: "f16", 8: "q8_0", 2: "q4_0"}
_DEVICES: Final = {"CPU": "host", "CPU_REPACK": "host", "CUDA_Host": "host", "CUDA0": "gpu0", "CUDA1": "gpu1"}
_TYPES: Final = {each.name: each for each in TENSOR_TYPES.values()}


@dataclass(frozen=True, slots=True)
class Row:
    """What llama.cpp said to one settings.

    Attributes:
        settings: of the estimate that it answers to.
        weights, context, compute: bytes by device; `context` is caches and recurrent state together.
        kv_mib, state_mib, output_mib: as its log prints them, over all devices.
        state_parts: how many figures `state_mib` was added up from.
        plain: flash attention, F16 caches, and everything on one device: what compute is promised for.
    """

    settings: FootprintSettings
    weights: dict[str, int]
    context: dict[str, int]
    compute: dict[str, int]
    kv_mib: float
    state_mib: float
    output_mib: float
    state_parts: int
    plain: bool


@dataclass(frozen=True, slots=True)
class TruthShape:
    """One model: its header, and what llama.cpp said about it."""

    name: str
    header: Header
    rows: tuple[Row, ...]
    refused: tuple[str, ...]
    estimate: Estimator = field(repr=False)

    @property
    def architecture(self) -> str:
        """Of the model."""
        return self.header.architecture or ""


@dataclass(frozen=True, slots=True)
class Table:
    """All of it, and the engine that said it."""

    engine: str
    shapes: dict[str, TruthShape]


@lru_cache(maxsize=1)
def load() -> Table:
    """The committed table."""
    shapes = json.loads(gzip.decompress((TRUTH / "shapes.json.gz").read_bytes()))
    engine = json.loads(gzip.decompress((TRUTH / "engine.json.gz").read_bytes()))
    found = {}
    for name, each in shapes.items():
        header = header_of(each["metadata"], each["tensors"])
        said = engine["rows"][name]
        rows = tuple(_row(row) for row in said if "error" not in row)
        refused = tuple(row["error"] for row in said if "error" in row)
        found[name] = TruthShape(name, header, rows, refused, Estimator(header))
    return Table(engine["engine"], found)


def header_of(metadata: dict[str, Any], tensors: list[tuple[str, list[int], str]]) -> Header:
    """The header that a file with that metadata and those tensors has."""
    infos, offset = [], 0
    for name, extents, kind_name in tensors:
        kind = _TYPES[kind_name]
        size = kind.row_bytes(extents[0])
        for extent in extents[1:]:
            size *= extent
        infos.append(TensorInfo(name, tuple(extents), kind.type_id, kind_name, offset, size))
        offset += -(-size // 32) * 32
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in metadata.items()}
    return Header(3, "little", values, tuple(infos), 32, 0, 0, offset)


def _row(said: dict[str, Any]) -> Row:
    asked = said["settings"]
    sums: list[dict[str, int]] = [{}, {}, {}]
    for buffer, sizes in said["buffers"].items():
        device = _DEVICES[buffer]
        for total, size in zip(sums, sizes, strict=True):
            total[device] = total.get(device, 0) + size
    settings = settings_of(asked)
    plain = (
        settings.flash_attention
        and settings.cache_type_k == settings.cache_type_v == "f16"
        and settings.gpus < 2
        and not {"ngl", "cpu_moe", "kv_gpu"} & asked.keys()
    )
    state = said["state_mib"].values()
    weights, context, compute = sums
    return Row(
        settings=settings,
        weights=weights,
        context=context,
        compute=compute,
        kv_mib=said["kv_mib"],
        state_mib=sum(state),
        output_mib=said["output_mib"],
        state_parts=len(state),
        plain=plain,
    )


def settings_of(asked: dict[str, int]) -> FootprintSettings:
    """The planner's settings as those of an estimate. Its context is of all slots together."""
    slots, gpus = asked.get("slots", 1), asked["gpus"]
    return FootprintSettings(
        context=-(-asked["ctx"] // slots),
        slots=slots,
        unified_kv=bool(asked.get("unified", 0)),
        cache_type_k=_CACHE_TYPES[asked.get("k", 1)],
        cache_type_v=_CACHE_TYPES[asked.get("v", 1)],
        flash_attention=bool(asked.get("fa", 1)),
        ubatch=asked.get("ubatch", 512),
        swa_full=bool(asked.get("swa_full", 0)),
        # The stand-in GPUs of the planner pad as CUDA does, but have no kernels that want scratch of their own.
        backend=Backend.CUDA if gpus else Backend.CPU,
        gpus=gpus,
        gpu_layers=asked.get("ngl"),
        cpu_moe_layers=min(asked.get("cpu_moe", 0), 512),
        kv_on_gpu=bool(asked.get("kv_gpu", 1)),
        mmap=False,
        repack=bool(asked.get("repack", 1)),
    )
