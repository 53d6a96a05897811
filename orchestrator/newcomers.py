"""Files that come to a source after a run was planned: what the run has keeps its name, and what is new is said."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.errors import RunFolderError
from orchestrator.kept_plan import read_plan
from orchestrator.plan import spec_digest
from quants.errors import QuantsError
from quants.models import FileModel
from runners.work import label_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from orchestrator.plan import Plan
    from orchestrator.rundir import RunDir
    from orchestrator.spec import ModelSpec, SweepSpec
    from quants.sources.listing import Listing
    from runners.work import Cell

LEFT_OUT = " is left out: "
"""What stands in a plan's warnings between the label of a cell that fits nothing and the reason."""


@dataclass(frozen=True, slots=True)
class Before:
    """The run that `run` would go on with.

    Attributes:
        cells: that it has; none where there is no run, or its plan cannot be read.
        newcomers: files that it does not take in, as `newcomers` tells them; none where the spec was changed.
    """

    cells: tuple[Cell, ...] = ()
    newcomers: tuple[str, ...] = ()


def run_before(folder: RunDir, spec: SweepSpec, base_dir: Path) -> Before:
    """What the run in `folder` means for a plan of `spec`."""
    with contextlib.suppress(RunFolderError):
        if folder.exists():
            plan = read_plan(folder)
            same = folder.read_identity()["spec_digest"] == spec_digest(spec)
            return Before(plan.cells, tuple(newcomers(spec, plan, base_dir, folder)) if same else ())
    return Before()


def named_as_before(listing: Listing, model: str, earlier: Iterable[Cell]) -> Listing:
    """The listing with the names that the quants of `model` have in `earlier` cells, for the same files.

    A second Q4_K_M beside the first one gives both longer names; a run that has the first one keeps calling it Q4_K_M.
    """
    names = {
        tuple(file.path for file in cell.model.artifact.files): cell.model.quant
        for cell in earlier
        if isinstance(cell.model, FileModel)
        and cell.model.name == model
        and (cell.model.artifact.repo, cell.model.artifact.builtin, cell.model.artifact.root)
        == (listing.repo, listing.builtin, listing.root)
    }
    renamed = tuple(
        replace(each, quant=names.get(tuple(file.path for file in each.files), each.quant))
        for each in listing.candidates
    )
    counts = Counter(each.quant.casefold() for each in renamed)
    # A name that something else has by now cannot be kept: the growth of the run will say what differs.
    unique = all(count == 1 for count in counts.values())
    return replace(listing, candidates=renamed) if unique else listing


def newcomers(spec: SweepSpec, plan: Plan, base_dir: Path, folder: RunDir) -> list[str]:
    """A line for each model of which all files are wanted, and whose folder has some by now that `plan`, of the run in
    `folder`, neither runs nor left out.

    Repositories are not asked: a run is pinned to a commit of theirs.
    """
    lines = []
    for model in spec.models:
        new = _new_files(model, plan, base_dir)
        if new:
            shown = ", ".join(new[:5]) + (f" and {len(new) - 5} more" if len(new) > 5 else "")
            lines.append(
                f"model {model.name!r}: {shown}: not in the run of {folder.root}, whose files were chosen when it was "
                "planned; a start with a changed spec takes in what is new, and so does a new run (--out DIR)"
            )
    return lines


def _new_files(model: ModelSpec, plan: Plan, base_dir: Path) -> list[str]:
    from quants.sources.resolve import is_folder, resolve

    if not isinstance(model.quants, str) or not is_folder(model.source, base_dir):
        return []
    try:
        listing = named_as_before(resolve(model.source, base_dir=base_dir), model.name, plan.cells)
    except QuantsError:  # the run has its own pins, and says itself what of them is gone
        return []
    cells = [cell for cell in plan.cells if cell.model.name == model.name]
    planned = {file.path for cell in cells if isinstance(cell.model, FileModel) for file in cell.model.artifact.files}
    left_out = {text.partition(LEFT_OUT)[0] for text in plan.warnings if LEFT_OUT in text}
    variants = [variant.name for variant in model.variants] or [""]
    return [
        each.files[0].path
        for each in listing.candidates
        if each.files[0].path not in planned
        and not any(label_of(model.name, each.quant, variant) in left_out for variant in variants)
    ]
