"""Which quants of a source fit which cards: the rows of `quantsweep fits`, from headers alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from quants.errors import QuantsError
from quants.facts import facts_of
from quants.fit.amounts import amount
from quants.fit.oracle import DryLoadError, dry_load, find_program, header_files
from quants.fit.rows import CardVerdict, FitRow, FitsSettings, FitTable
from quants.fit.verdict import VerdictKind, cheapest_offload, largest_context, report
from quants.footprint import Estimator, Footprint, FootprintSettings
from quants.footprint.placement import place
from quants.sources.headers import read_headers
from quants.sources.local import builtin_root
from quants.sources.resolve import resolve
from quants.speed.observation import Load, is_moe
from quants.speed.predictor import DEPTH
from quants.trained import trained_context

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from quants.fit.targets import Target
    from quants.fit.verdict import Offload
    from quants.gguf import Header
    from quants.hub.client import HubSettings
    from quants.sources.headers import CandidateHeader
    from quants.sources.listing import Listing
    from quants.speed.predictor import Predictor

__all__ = ["CardVerdict", "FitRow", "FitTable", "FitsSettings", "fits"]

# What a sweep starts a server with unless told otherwise; a model trained on less gets that.
DEFAULT_CONTEXT: Final = 16_384
# Where a search for a longer context is worth it: too big for now may still do with a shorter one.
HOST_BANDWIDTH: Final = 60e9
"""Bytes a second of host memory beside a card, which no header and no catalogue tells: dual-channel DDR5."""
_WHOLE: Final = frozenset({VerdictKind.FITS, VerdictKind.TOO_BIG})


def fits(
    sources: Sequence[str],
    targets: Sequence[Target],
    settings: FitsSettings | None = None,
    *,
    rates: Predictor | None = None,
    base_dir: Path | None = None,
    hub: HubSettings | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> FitTable:
    """Whether each quant of each source fits each target.

    Only headers are read; files may lack their weights, which their rows say.

    Args:
        sources: files, folders, hf:owner/name[@revision], names of the catalogue.
        targets: one column each; the sizes of a row are those on the first.
        settings: of the server.
        rates: predicts how fast it will be; None: nothing is predicted.
        base_dir: what relative paths count from; the current folder by default.
        hub: where the Hub is; by default as huggingface_hub took it from the environment.
        cancelled: asked now and then while headers are read.

    Raises:
        QuantsError: no targets, or not one header that can be read.
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
                rows.append(
                    _Judge(source, listing, found, Quant(found.header, family), asked=asked, rates=rates).row(targets)
                )
    if not rows:
        reasons = "; ".join(reason for _, reason in skipped[:3])
        raise QuantsError(f"no header could be read{': ' + reasons if reasons else ''}")
    return FitTable(tuple(rows), tuple(targets), tuple(skipped), tuple(sidecars), fetched)


class Quant(Estimator):
    """An estimator that shares its work with those of the same model's other quants.

    Where nothing is offloaded, caches, state and compute buffers follow from hyper-parameters and tensor shapes, which
    quants of one model have in common; only weights differ. So of sixty quants one is estimated, and sixty sets of
    weights are placed.

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
        if settings.gpus and (settings.gpu_layers is not None or settings.cpu_moe_layers or not settings.kv_on_gpu):
            # A GPU that computes with weights from host memory has room for copies of them: each quant has its own.
            return super().__call__(settings)
        sibling = self._known_footprints.get(settings)
        if sibling is None:
            sibling = self._known_footprints[settings] = super().__call__(settings)
        model = self.model
        if model is None or not sibling.known:
            return sibling
        placed = self._placed(model, place(len(model.layers), settings))
        devices = tuple(replace(each, weights_bytes=placed.bytes_on.get(each.device, 0)) for each in sibling.devices)
        return replace(sibling, devices=devices, repacked_bytes=placed.repacked_bytes)


class _Judge:
    """Judges one quant of a source."""

    def __init__(
        self,
        source: str,
        listing: Listing,
        found: CandidateHeader,
        quant: Quant,
        *,
        asked: FitsSettings,
        rates: Predictor | None,
    ) -> None:
        self.source = source
        self.listing = listing
        self.candidate = found.candidate
        self.missing_bytes = found.missing_bytes
        self.quant = quant
        self.asked = asked
        self.rates = rates
        self.facts = None if found.header is None else facts_of(found.header)
        self.trained = None if found.header is None else trained_context(found.header)
        self.context = asked.context or min(DEFAULT_CONTEXT, self.trained or DEFAULT_CONTEXT)

    def row(self, targets: Sequence[Target]) -> FitRow:
        """The row with a verdict for each target."""
        footprints = {target.name: self._estimate(target) for target in targets}
        known = [target for target in targets if footprints[target.name].known]
        whole = footprints[known[0].name] if known else max(footprints.values(), key=lambda each: len(each.reason))
        verdicts = {target.name: self._verdict(target, footprints[target.name]) for target in targets}
        contexts = [each.max_context for each in verdicts.values() if each.max_context is not None]
        bits = self.quant.bits_per_weight
        return FitRow(
            source=self.source,
            resolved=_address(self.listing),
            quant=self.candidate.quant,
            path=self.candidate.files[0].path,
            file_bytes=self.candidate.file_bytes,
            missing_bytes=self.missing_bytes,
            bits_per_weight=None if bits is None else round(bits, 3),
            architecture=whole.architecture,
            context=self.context,
            trained_context=self.trained,
            slots=self.asked.slots,
            cache_type_k=self.asked.cache_type_k,
            cache_type_v=self.asked.cache_type_v,
            method=whole.method,
            target=known[0].name if known else None,
            **_sizes(whole),
            max_context=max(contexts, default=None),
            verdicts=verdicts,
            reason=whole.reason,
        )

    def _settings(self, target: Target) -> FootprintSettings:
        return FootprintSettings(
            context=self.context,
            slots=self.asked.slots,
            cache_type_k=self.asked.cache_type_k,
            cache_type_v=self.asked.cache_type_v,
            backend=target.backend,
            gpus=target.gpus,
            tensor_split=target.tensor_split,
        )

    def _estimate(self, target: Target) -> Footprint:
        """The estimate; where there can be none, what this machine's engine says of its own devices."""
        settings = self._settings(target)
        footprint = self.quant(settings)
        if footprint.known or not target.asks_engine or self.listing.kind == "hub":
            return footprint
        try:
            program = find_program()
        except DryLoadError:
            return footprint
        listing = self.listing
        root = builtin_root(listing.builtin) if listing.builtin is not None else Path(listing.root or ".")
        try:
            return dry_load(
                header_files([root / file.path for file in self.candidate.files]), settings, program=program
            )
        except (QuantsError, OSError) as error:
            return replace(footprint, reason=f"{footprint.reason}; asked instead, {error}")

    def _verdict(self, target: Target, footprint: Footprint) -> CardVerdict:
        settings = self._settings(target)
        found = report(footprint, target.devices)
        reason = found.verdict.reason
        shares = (
            "" if settings.tensor_split is None else f"-ts {','.join(f'{each:g}' for each in settings.tensor_split)}"
        )
        flags = shares if found.verdict.kind in _WHOLE else ""
        on_host: float = 0
        if self.asked.offload and found.verdict.kind is VerdictKind.TOO_BIG:
            moved = cheapest_offload(self.quant, settings, target.devices)
            if moved is not None:
                flags, footprint = f"{moved.command} {shares}".strip(), moved.footprint
                on_host = self._read_on_host(moved)
                found = report(footprint, target.devices)
                reason = f"{found.verdict.reason}, with {flags} and {amount(footprint.host.safe_bytes)} of host memory"
        kind = found.verdict.kind
        load = None if kind is VerdictKind.TOO_BIG else self._load(target, footprint, on_host)
        return CardVerdict(
            verdict=kind,
            headroom_bytes=found.verdict.headroom_bytes,
            reason=reason,
            device=found.chosen.device or None,
            needed_bytes=found.chosen.needed_bytes,
            memory_bytes=found.chosen.memory_bytes,
            max_context=largest_context(self.quant, settings, target.devices) if kind in _WHOLE else None,
            host_bytes=_besides(footprint),
            flags=flags,
            decode=None if load is None or self.rates is None else self.rates.decode(load),
            prefill=None if load is None or self.rates is None or on_host else self.rates.prefill(load),
        )

    def _read_on_host(self, moved: Offload) -> float:
        """Bytes that a token reads in host memory: of experts those that it uses, of layers what it uses of them."""
        model, facts = self.quant.model, self.facts
        if model is None or facts is None:
            return float(moved.host_bytes)
        if moved.settings.gpu_layers is None:
            count = self.quant.header.integer("{arch}.expert_count") or max(model.experts_used)
            return moved.host_bytes * max(model.experts_used) / count
        return moved.host_bytes * min(1.0, facts.token_bytes * 8 / (facts.parameters * facts.bits_per_weight))

    def _load(self, target: Target, footprint: Footprint, on_host: float) -> Load | None:
        """What the rates there depend on; None where something of it is not known."""
        facts, bandwidth = self.facts, target.bandwidth_bytes_per_s
        if facts is None or not facts.token_bytes or not bandwidth or target.hardware is None:
            return None
        kv_bytes = sum(device.kv_bytes for device in footprint.devices) * min(
            1.0, DEPTH / (self.context * self.asked.slots)
        )
        on_device = max(facts.token_bytes - on_host, 0) + kv_bytes
        ideal_s = on_device / bandwidth + on_host / HOST_BANDWIDTH
        return Load(
            ideal_s, facts.bits_per_weight, is_moe(facts), self.candidate.quant, target.hardware, split=on_host > 0
        )


def _sizes(footprint: Footprint) -> dict[str, int | None]:
    """What lies on the GPUs, or in the RAM of a CPU, by component; the sum; and what lies in host memory besides."""
    components = ("weights_bytes", "kv_bytes", "state_bytes", "compute_bytes", "output_bytes", "overhead_bytes")
    if not footprint.known:
        return dict.fromkeys((*components, "margin_bytes", "total_bytes", "host_bytes"))
    parts = footprint.gpus or (footprint.host,)
    return {
        **{name: sum(getattr(part, name) for part in parts) for name in components},
        "margin_bytes": sum(part.uncertainty_bytes for part in parts),
        "total_bytes": sum(part.safe_bytes for part in parts),
        "host_bytes": _besides(footprint),
    }


def _besides(footprint: Footprint) -> int | None:
    """What lies in host memory beside GPUs; None where there are none."""
    return footprint.host.safe_bytes if footprint.gpus else None


def _address(listing: Listing) -> str:
    """What a source stood for, so that it can be asked about again."""
    if listing.repo is not None:
        return f"hf:{listing.repo}@{listing.revision}"
    return f"builtin:{listing.builtin}" if listing.builtin is not None else listing.root or listing.source
