"""Which quants of a source fit which cards: the rows of `quantsweep fits`, from headers alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from quants.errors import QuantsError
from quants.fit import VerdictKind, cheapest_offload, largest_context, report
from quants.footprint import CACHE_TYPES, Estimator, Footprint, FootprintSettings
from quants.footprint.placement import place
from quants.headers import read_headers
from quants.source import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from quants.gguf import Header
    from quants.headers import CandidateHeader
    from quants.hubclient import HubSettings
    from quants.targets import Target

# What a sweep starts a server with unless told otherwise; a model trained on less gets that.
DEFAULT_CONTEXT: Final = 16_384
_LARGEST_CONTEXT: Final = 1 << 24
_MOST_SLOTS: Final = 256  # LLAMA_MAX_SEQ in llama.cpp
# Where a search for a longer context is worth it: too big for now may still do with a shorter one.
_WHOLE: Final = frozenset({VerdictKind.FITS, VerdictKind.TOO_BIG})


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
        headroom_bytes: what stays free (negative: what is missing); None where it is unknown.
        reason: a sentence.
        max_context: the most tokens of context for each slot that fit, at most what the model was trained on;
            None where none do, where nothing is known, and with part in host memory (more of it there, more context).
        flags: what llama-server is to be told for a placement with part in host memory; empty otherwise.
    """

    verdict: VerdictKind
    headroom_bytes: int | None
    reason: str
    max_context: int | None = None
    flags: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRow:
    """One quant: its size, its footprint, and a verdict for each target.

    The footprint is that on the first target with nothing offloaded: GPUs of another make differ a little. Its sizes
    are in bytes, over all devices together, and None where the architecture is unknown.

    Attributes:
        source: as it was asked for.
        quant: its name in the source.
        path: of its file (the first, for a split set), relative to the source.
        file_bytes: of all its files.
        bits_per_weight: mean bits of storage for each weight; None if the header has no tensors.
        architecture: None where the header does not say.
        context: tokens for each slot that the figures hold for.
        slots: requests served at once.
        cache_type_k: type of the K cache.
        cache_type_v: type of the V cache.
        method: "estimate" or "engine"; "unknown" where there are no figures.
        weights_bytes: model buffers.
        kv_bytes: K and V caches.
        state_bytes: recurrent state.
        compute_bytes: compute buffers.
        output_bytes: logits handed back.
        overhead_bytes: what the engine and its driver take besides.
        total_bytes: the sum of these.
        max_context: the most tokens of context for each slot that fit on any of the targets.
        verdicts: by the target's name.
        reason: why there are no figures; empty where there are.
    """

    source: str
    quant: str
    path: str
    file_bytes: int
    bits_per_weight: float | None
    architecture: str | None
    context: int
    slots: int
    cache_type_k: str
    cache_type_v: str
    method: str
    weights_bytes: int | None
    kv_bytes: int | None
    state_bytes: int | None
    compute_bytes: int | None
    output_bytes: int | None
    overhead_bytes: int | None
    total_bytes: int | None
    max_context: int | None
    verdicts: Mapping[str, CardVerdict]
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """The row as a JSON object, as `quantsweep fits --json` prints it."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "verdicts"}
        verdicts = {
            name: {slot: getattr(each, slot) for slot in each.__slots__} | {"verdict": each.verdict.value}
            for name, each in self.verdicts.items()
        }
        return values | {"verdicts": verdicts}


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


def fits(
    sources: Sequence[str],
    targets: Sequence[Target],
    settings: FitsSettings | None = None,
    *,
    base_dir: Path | None = None,
    hub: HubSettings | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> FitTable:
    """Whether each quant of each source fits each target.

    Only headers are read; local files may lack their weights.

    Args:
        sources: files, folders, hf:owner/name[@revision], names of the catalogue.
        targets: one column each; the sizes of a row are those on the first.
        settings: of the server.
        base_dir: what relative paths count from; the current folder by default.
        hub: where the Hub is; by default as huggingface_hub took it from the environment.
        cancelled: asked now and then while headers are read.

    Raises:
        SourceError: nothing usable in a source.
        HubError: the Hub refused or cannot be reached.
    """
    if not targets:
        raise QuantsError("nothing is said of what the model is to fit on", "Give --vram, --card or --here")
    asked = settings or FitsSettings()
    rows: list[FitRow] = []
    skipped: list[tuple[str, str]] = []
    sidecars: list[tuple[str, int]] = []
    fetched = 0
    for source in dict.fromkeys(sources):
        listing = resolve(source, base_dir=base_dir or Path.cwd(), need_data=False, hub=hub)
        skipped += [(path, reason) for path, reason in listing.skipped]
        sidecars += [(each.file.path, each.file.size_bytes) for each in listing.sidecars if each.kind != "imatrix"]
        family: dict[Any, dict[FootprintSettings, Footprint]] = {}
        for found in read_headers(listing, hub=hub, cancelled=cancelled):
            fetched += found.fetched_bytes
            if found.header is None:
                skipped.append((found.candidate.files[0].path, str(found.error)))
            else:
                rows.append(_row(source, found, Quant(found.header, family), targets, asked))
    if not rows:
        reasons = "; ".join(reason for _, reason in skipped[:3])
        raise QuantsError(f"no header could be read{': ' + reasons if reasons else ''}")
    return FitTable(tuple(rows), tuple(targets), tuple(skipped), tuple(sidecars), fetched)


class Quant(Estimator):
    """An estimator that shares its work with those of the same model's other quants.

    Caches, state and compute buffers follow from hyper-parameters and tensor shapes, which quants of one model have in
    common; only weights differ. So of sixty quants one is estimated, and sixty sets of weights are placed.

    Args:
        header: of the quant.
        family: footprints by shape and settings; the same dictionary for all quants of a source.
    """

    def __init__(self, header: Header, family: dict[Any, dict[FootprintSettings, Footprint]]) -> None:
        super().__init__(header)
        self.bits_per_weight = header.bits_per_weight
        shape = (self.model, tuple((tensor.name, tensor.shape) for tensor in header.tensors))
        self._known_footprints = family.setdefault(shape, {}) if self.model is not None else {}

    def __call__(self, settings: FootprintSettings) -> Footprint:
        """The footprint under `settings`; see `Estimator`."""
        sibling = self._known_footprints.get(settings)
        if sibling is None:
            sibling = self._known_footprints[settings] = super().__call__(settings)
        model = self.model
        if model is None or not sibling.known:
            return sibling
        placed = self._placed(model, place(len(model.layers), settings))
        devices = tuple(replace(each, weights_bytes=placed.bytes_on.get(each.device, 0)) for each in sibling.devices)
        return replace(sibling, devices=devices, repacked_bytes=placed.repacked_bytes)


def _row(source: str, found: CandidateHeader, quant: Quant, targets: Sequence[Target], asked: FitsSettings) -> FitRow:
    trained = quant.model.trained_context if quant.model is not None else None
    context = asked.context or min(DEFAULT_CONTEXT, trained or DEFAULT_CONTEXT)
    whole = quant(_settings(targets[0], context, asked))
    verdicts = {target.name: _judge(quant, target, context, asked) for target in targets}
    contexts = [each.max_context for each in verdicts.values() if each.max_context is not None]
    return FitRow(
        source=source,
        quant=found.candidate.quant,
        path=found.candidate.files[0].path,
        file_bytes=found.candidate.file_bytes,
        bits_per_weight=None if quant.bits_per_weight is None else round(quant.bits_per_weight, 3),
        architecture=whole.architecture,
        context=context,
        slots=asked.slots,
        cache_type_k=asked.cache_type_k,
        cache_type_v=asked.cache_type_v,
        method=whole.method,
        weights_bytes=whole.total("weights_bytes"),
        kv_bytes=whole.total("kv_bytes"),
        state_bytes=whole.total("state_bytes"),
        compute_bytes=whole.total("compute_bytes"),
        output_bytes=whole.total("output_bytes"),
        overhead_bytes=whole.total("overhead_bytes"),
        total_bytes=whole.total_bytes,
        max_context=max(contexts, default=None),
        verdicts=verdicts,
        reason=whole.reason,
    )


def _settings(target: Target, context: int, asked: FitsSettings) -> FootprintSettings:
    return FootprintSettings(
        context=context,
        slots=asked.slots,
        cache_type_k=asked.cache_type_k,
        cache_type_v=asked.cache_type_v,
        backend=target.backend,
        gpus=target.gpus,
    )


def _judge(quant: Quant, target: Target, context: int, asked: FitsSettings) -> CardVerdict:
    settings = _settings(target, context, asked)
    found = report(quant(settings), target.devices).verdict
    reason, flags = found.reason, ""
    if asked.offload and found.kind is VerdictKind.TOO_BIG:
        moved = cheapest_offload(quant, settings, target.devices)
        if moved is not None:
            flags = moved.command
            found = report(moved.footprint, target.devices).verdict
            reason = f"{found.reason}, with {flags}"
    return CardVerdict(
        verdict=found.kind,
        headroom_bytes=found.headroom_bytes,
        reason=reason,
        max_context=largest_context(quant, settings, target.devices) if found.kind in _WHOLE else None,
        flags=flags,
    )
