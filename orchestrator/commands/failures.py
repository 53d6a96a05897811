"""`quantsweep show RUN --failures`: what was lost, most frequent first, and by which jobs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from orchestrator import terminal
from orchestrator.rundir import RunDir
from results.answer import cell_name
from results.failures import LOOKED_AT, FailureGroup, failure_groups
from results.figures import count, plain
from results.jobs import short_ids
from results.reading import read_run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orchestrator.terminal import Part
    from results.failures import Failure

_MOST_GROUPS: Final = 60
_MOST_CELLS: Final = 12
_MOST_JOBS: Final = 8
"""Of a cell; `--json` has all."""
_NOTE_CHARS: Final = 240


def failures_of_run(root: Path, *, as_json: bool, again: str) -> list[Part]:
    """The failures of the run in `root`.

    Args:
        root: the run folder.
        as_json: for a program; all of them, and nothing left out.
        again: how to look at one job, as it has to be typed, without the job.

    Raises:
        RunFolderError: this is no run folder.
        StoreError: a newer quantsweep wrote it.
    """
    RunDir(root).require()
    table = read_run(root, LOOKED_AT).table
    groups = failure_groups(table)
    if as_json:
        return [terminal.Json({"failures": [_json(group) for group in groups]})]
    if not groups:
        return [f"No attempt in {root} lost a point or failed."]
    short = short_ids(dict.fromkeys(table["job_id"].to_pylist()))
    parts: list[Part] = []
    for group in groups[:_MOST_GROUPS]:
        parts += [*_of_group(group, short), ""]
    if len(groups) > _MOST_GROUPS:
        parts += [f"... and {len(groups) - _MOST_GROUPS:,} kinds of failure more: --json has all", ""]
    first = next(failure.job_id for failure in groups[0].failures)
    return [*parts, f"To look at one: {again} {short[first]}"]


def _json(group: FailureGroup) -> dict[str, Any]:
    return asdict(group) | {"count": len(group.failures)}


def _of_group(group: FailureGroup, short: Mapping[str, str]) -> list[Part]:
    what = group.outcome if group.item is None else f"{group.item}, {group.outcome}"
    jobs = len({failure.job_id for failure in group.failures})
    share = f"{jobs:,} of {count(group.jobs, 'job')}"
    if group.retried:
        share = f"{count(len(group.failures), 'earlier attempt')} without a score, tried again"
    parts: list[Part] = [f"{group.exam}: {what} ({group.outcome_class}): {share}"]
    if group.note:
        all_say = group.noted == len(group.failures)
        who = "said" if all_say else f"said of {group.noted:,} of {len(group.failures):,}"
        parts.append(f"  {who}: {terminal.line(group.note, _NOTE_CHARS)}")
    cells: dict[str, list[Failure]] = defaultdict(list)
    for failure in group.failures:
        cells[cell_name(failure.model, failure.variant, failure.quant)].append(failure)
    for cell, failures in list(cells.items())[:_MOST_CELLS]:
        named = ", ".join(_job(failure, short) for failure in failures[:_MOST_JOBS])
        more = f", and {len(failures) - _MOST_JOBS:,} more" if len(failures) > _MOST_JOBS else ""
        parts.append(f"  {cell}: {named}{more}")
    if len(cells) > _MOST_CELLS:
        parts.append(f"  ... and {len(cells) - _MOST_CELLS:,} cells more")
    return parts


def _job(failure: Failure, short: Mapping[str, str]) -> str:
    where = f"seed {failure.seed}" if failure.task == "main" else f"{failure.task}, seed {failure.seed}"
    points = "" if failure.score is None or failure.score_max is None else f", {_points(failure)}"
    return f"{short[failure.job_id]} ({where}{points})"


def _points(failure: Failure) -> str:
    return f"{plain(failure.score)} of {plain(failure.score_max)}"
