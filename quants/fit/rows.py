"""What `quantsweep fits` is asked and what it answers: settings in, one row for each quant out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from quants.errors import QuantsError
from quants.footprint import CACHE_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quants.fit.targets import Target
    from quants.fit.verdict import VerdictKind
    from quants.speed.predictor import Rate

_LARGEST_CONTEXT: Final = 1 << 24
_MOST_SLOTS: Final = 256  # LLAMA_MAX_SEQ in llama.cpp


@dataclass(frozen=True, slots=True, kw_only=True)
class FitsSettings:
    """How the server would be started.

    Attributes:
        context: tokens for each slot; None: 16,384, or what the model was trained on if that is less.
        slots: requests served at once.
        cache_type_k: type of the K cache.
        cache_type_v: type of the V cache.
        offload: look for a placement with part of the model in host memory where the GPUs alone are too small.
    """

    context: int | None = None
    slots: int = 1
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    offload: bool = False

    def __post_init__(self) -> None:
        if self.context is not None and not 0 < self.context <= _LARGEST_CONTEXT:
            raise QuantsError(
                f"a context of {self.context:,} tokens makes no sense", f"Give 1 to {_LARGEST_CONTEXT:,} tokens"
            )
        if not 0 < self.slots <= _MOST_SLOTS:
            raise QuantsError(f"{self.slots} slots make no sense", f"llama.cpp serves 1 to {_MOST_SLOTS} at once")
        for name in (self.cache_type_k, self.cache_type_v):
            if name not in CACHE_TYPES:
                raise QuantsError(f"no cache type is called {name!r}", f"llama.cpp has {', '.join(CACHE_TYPES)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CardVerdict:
    """The verdict for one quant on one target.

    Attributes:
        verdict: fits, fits_offloaded, too_big or unknown.
        headroom_bytes: what stays free (negative: what is missing) on `device`: `memory_bytes` less `needed_bytes`;
            None where it is unknown.
        reason: a sentence.
        device: the one that decides: of several GPUs the fullest; host memory where that is too small; None where
            nothing is known.
        needed_bytes: what has to be free there, with what the estimate may be short by.
        memory_bytes: what there is: what is free at present where that is known, else all that a program may use.
        max_context: the most tokens of context for each slot that fit, at most what the model was trained on;
            None where none do, where nothing is known, and with part in host memory (more of it there, more context).
        host_bytes: what lies in host memory beside the GPUs; with part of the model there, that part too. None where
            there is no GPU, and where nothing is known.
        flags: what llama-server is to be told for it; empty for others.
        decode: predicted decode rate where it fits (`quants.speed`); None where the bandwidth is not known.
        prefill: the same for reading a prompt.
    """

    verdict: VerdictKind
    headroom_bytes: int | None
    reason: str
    device: str | None = None
    needed_bytes: int | None = None
    memory_bytes: int | None = None
    max_context: int | None = None
    host_bytes: int | None = None
    flags: str = ""
    decode: Rate | None = None
    prefill: Rate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRow:
    """One quant: its size, its footprint, and a verdict for each target.

    The footprint is that on one target, the first of which anything is known, with nothing offloaded: GPUs of another
    make differ a little, a CPU a lot. Its sizes are in bytes, on the target's GPUs together (for a CPU: in its RAM),
    and None where the architecture is unknown.

    Attributes:
        source: as it was asked for.
        resolved: what that stood for: hf:owner/name@commit, a built-in model, or a folder.
        quant: its name in the source.
        path: of its file (the first, for a split set), relative to the source.
        file_bytes: of all its files, as far as they are there.
        missing_bytes: how much shorter they are than their headers say; 0 where they are whole.
        bits_per_weight: mean bits of storage for each weight; None if the header has no tensors.
        architecture: None where the header does not say.
        context: tokens for each slot that the figures hold for.
        trained_context: tokens that the model was made for, rope scaling included; None if its header does not say.
        slots: requests served at once.
        cache_type_k: type of the K cache.
        cache_type_v: type of the V cache.
        method: "estimate" or "engine"; "unknown" where there are no figures.
        target: the name of the target whose sizes these are; None where there are no figures.
        weights_bytes: model buffers.
        kv_bytes: K and V caches; by the engine's account recurrent state too.
        state_bytes: recurrent state.
        compute_bytes: compute buffers.
        output_bytes: logits handed back.
        overhead_bytes: what the engine and its driver take besides.
        margin_bytes: what the estimate of the compute buffers may be short by.
        total_bytes: the sum of these: what has to be free there.
        host_bytes: what lies in host memory beside the GPUs; None where there is no GPU.
        max_context: the most tokens of context for each slot that fit on any of the targets.
        verdicts: by the target's name.
        reason: why there are no figures, or where they come from; empty for an estimate.
    """

    source: str
    resolved: str
    quant: str
    path: str
    file_bytes: int
    missing_bytes: int
    bits_per_weight: float | None
    architecture: str | None
    context: int
    trained_context: int | None
    slots: int
    cache_type_k: str
    cache_type_v: str
    method: str
    target: str | None
    weights_bytes: int | None
    kv_bytes: int | None
    state_bytes: int | None
    compute_bytes: int | None
    output_bytes: int | None
    overhead_bytes: int | None
    margin_bytes: int | None
    total_bytes: int | None
    host_bytes: int | None
    max_context: int | None
    verdicts: Mapping[str, CardVerdict]
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """The row as a JSON object, as `quantsweep fits --json` prints it."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "verdicts"}
        verdicts = {
            name: {slot: getattr(each, slot) for slot in each.__slots__}
            | {"verdict": each.verdict.value, "decode": _json(each.decode), "prefill": _json(each.prefill)}
            for name, each in self.verdicts.items()
        }
        return values | {"verdicts": verdicts}


def _json(found: Rate | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)


@dataclass(frozen=True, slots=True)
class FitTable:
    """The answer for all sources.

    Attributes:
        rows: quants, smallest first within each source.
        targets: the columns.
        skipped: (path, reason) of files that could not be read or are no quants.
        sidecars: (path, bytes) of files that a server may load besides, which are not counted (mmproj, draft models).
        fetched_bytes: read over the network for headers.
    """

    rows: tuple[FitRow, ...]
    targets: tuple[Target, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    sidecars: tuple[tuple[str, int], ...] = ()
    fetched_bytes: int = 0
