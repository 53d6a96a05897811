"""Cells that are too big for every node of a cluster: left out where nobody named them, a mistake where somebody did.

A local sweep is judged when it is planned (`orchestrator.survey`). A cluster's nodes come and go, so its plan has all
that the spec asks for, and what fits none of the nodes that are there is left out of the run: a node that joins later,
or is there at the next start, is given it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.errors import ClusterError
from quants.fit.verdict import VerdictKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orchestrator.spec import SweepSpec
    from orchestrator.survey import Survey
    from profiles.types import NodeProfile
    from runners.work import Cell

SHOWN = 8
"""Lines of an error that name a cell each; the rest are counted."""


def by_name(spec: SweepSpec) -> frozenset[str]:
    """The models whose quants the spec names one by one."""
    return frozenset(model.name for model in spec.models if not isinstance(model.quants, str))


class Misfits:
    """Tells what to do about cells that are too big. `named` are models whose quants somebody named."""

    def __init__(self, cells: Iterable[Cell], named: frozenset[str]) -> None:
        self._cells = {cell.cell_id: cell for cell in cells}
        self._named = named

    def left_out(self, too_big: Mapping[str, list[str]]) -> dict[str, list[str]]:
        """Those that the run can do without: nobody named them, and another quant of their model fits."""
        fitting = {_family(cell) for cell_id, cell in self._cells.items() if cell_id not in too_big}
        return {
            cell_id: reasons
            for cell_id, reasons in too_big.items()
            if self._cells[cell_id].model.name not in self._named and _family(self._cells[cell_id]) in fitting
        }

    def error(self, too_big: Mapping[str, list[str]]) -> ClusterError | None:
        """What is wrong with the spec, where cells are too big that cannot be left out."""
        wrong = too_big.keys() - self.left_out(too_big).keys()
        if not wrong:
            return None
        lines = [
            f"{self._cells[cell_id].label}: {'; '.join(too_big[cell_id])}" for cell_id in too_big if cell_id in wrong
        ]
        return ClusterError(
            "no node of the cluster can hold what the spec asks for:",
            details=lines[:SHOWN] + ([f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []),
            hint='Let a larger node join and start again, or name smaller quants; quants = "fitting" takes what fits.',
        )


def without_misfits(spec: SweepSpec, found: Survey, profiles: Iterable[NodeProfile]) -> Survey:
    """What a spec asks for, judged for these nodes: what is too big for all of them is among what is left out.

    Raises:
        ClusterError: it cannot be left out.
    """
    from orchestrator.nodes import verdicts_for

    numbered = {str(number): replace(each.cell, cell_id=str(number)) for number, each in enumerate(found.cells)}
    too_big: dict[str, list[str]] = {}
    profiles = list(profiles)
    for cell_id, cell in numbered.items():
        verdicts = [
            (f"{profile.hostname}/{device_id}: {verdict.reason}", verdict.kind)
            for profile in profiles
            for device_id, verdict in verdicts_for(cell, profile).items()
        ]
        if verdicts and all(kind is VerdictKind.TOO_BIG for _, kind in verdicts):
            too_big[cell_id] = [reason for reason, _ in verdicts]
    misfits = Misfits(numbered.values(), by_name(spec))
    if (wrong := misfits.error(too_big)) is not None:
        raise wrong
    kept = tuple(each for number, each in enumerate(found.cells) if str(number) not in too_big)
    left_out = tuple((found.cells[int(cell_id)].cell, "; ".join(reasons)) for cell_id, reasons in too_big.items())
    return replace(found, cells=kept, left_out=(*found.left_out, *left_out))


def _family(cell: Cell) -> tuple[str, str]:
    return cell.model.name, cell.variant
