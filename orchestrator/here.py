"""What this machine can hold of what a spec asks for: a local sweep has to make do with it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from orchestrator.engine_choice import given_values, program_path
from orchestrator.fitting import footprints_of, verdict_on
from orchestrator.nodes import verdicts_for
from orchestrator.places import EMBEDDED, engine_of, serving_places, why_not_served
from quants.errors import QuantsError
from quants.fit.verdict import VerdictKind

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.spec import SweepSpec
    from profiles.types import NodeProfile
    from quants.sources.listing import Listing
    from runners.work import Cell


def programs_named(spec: SweepSpec, base_dir: Path) -> tuple[str, ...]:
    """The engine programs that a spec names, each once."""
    layers = [spec.engine]
    for model in spec.models:
        layers += [model.engine, *(variant.engine for variant in model.variants)]
    named = [program_path(base_dir, given) for layer in layers if (given := given_values(layer).get("binary"))]
    return tuple(dict.fromkeys(named))


class ThisMachine:
    """Judges cells by their headers. The machine is probed when it is first asked about."""

    def __init__(self, spec: SweepSpec, base_dir: Path) -> None:
        self._spec, self._base_dir = spec, base_dir

    @cached_property
    def profile(self) -> NodeProfile:
        """What the machine has, the engine programs that the spec names included."""
        from profiles.probe import probe_node

        return probe_node(binaries=programs_named(self._spec, self._base_dir))

    def why_not_served(self, cell: Cell) -> str | None:
        """Why no device of it can serve the cell, whatever its size; None if one can, or the engine is not there."""
        engine = engine_of(cell, self.profile)
        if engine is None or (engine.problem is not None and engine.kind != EMBEDDED):
            return None  # told when the engine was looked for
        return why_not_served(cell, self.profile)

    def too_big(self, cell: Cell) -> str | None:
        """Why no device that would serve the cell can hold it; None if one can, or none would serve it."""
        verdicts = verdicts_for(cell, self.profile)
        if not verdicts or any(verdict.kind is not VerdictKind.TOO_BIG for verdict in verdicts.values()):
            return None
        return "; ".join(f"{place_id}: {verdict.reason}" for place_id, verdict in verdicts.items())

    def nearest_that_fits(self, cell: Cell, listing: Listing) -> str | None:
        """The largest quant below the cell's that some device can hold under the same settings."""
        from quants.sources.headers import read_headers

        smaller = [c for c in listing.candidates if c.file_bytes < (cell.model.file_bytes or 0)]
        try:
            read = read_headers(listing, smaller)
        except QuantsError:
            return None
        for found in sorted(read, key=lambda each: -each.candidate.file_bytes):
            if found.header is None:
                continue
            footprints = footprints_of(found.header, cell.engine)
            for place in serving_places(cell, self.profile).values():
                verdict = verdict_on(footprints, found.candidate.file_bytes, self.profile, place, cell.engine)
                if verdict.kind in {VerdictKind.FITS, VerdictKind.FITS_OFFLOADED}:
                    return found.candidate.quant
        return None
