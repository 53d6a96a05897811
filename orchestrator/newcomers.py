"""Files that come to a source after a run was planned: what the run has keeps its name, and what is new is said."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.errors import RunFolderError
from orchestrator.kept_plan import read_plan
from quants.errors import QuantsError
from quants.models import FileModel

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from orchestrator.plan import Plan
    from orchestrator.rundir import RunDir
    from orchestrator.spec import ModelSpec, SweepSpec
    from quants.sources.listing import Listing
    from runners.work import Cell


def planned_before(folder: RunDir) -> tuple[Cell, ...]:
    """The cells of the run in `folder`; none where there is no run, or its plan cannot be read."""
    with contextlib.suppress(RunFolderError):
        if folder.exists():
            return read_plan(folder).cells
    return ()


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


def newcomers(spec: SweepSpec, plan: Plan, base_dir: Path) -> list[str]:
    """A line for each model whose folder has files by now that `plan` neither runs nor left out, where all are wanted.

    Repositories are not asked: a run is pinned to a commit of theirs.
    """
    lines = []
    for model in spec.models:
        new = _new_files(model, plan, base_dir)
        if new:
            shown = ", ".join(new[:5]) + (f" and {len(new) - 5} more" if len(new) > 5 else "")
            lines.append(
                f"model {model.name!r}: {shown}: not in this run, whose files were chosen when it was planned; "
                "a start with a changed spec takes in what is new, and so does a new run (--out DIR)"
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
    left_out = [text for text in plan.warnings if " is left out: " in text]
    return [
        each.files[0].path
        for each in listing.candidates
        if each.files[0].path not in planned
        and not any(text.startswith(f"{model.name} {each.quant} ") for text in left_out)
    ]
