"""`quantsweep plan`: what a sweep would run and whether this machine can serve it, without running anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator import terminal
from orchestrator.fitting import predicted_bytes
from orchestrator.needs import lacking, names_of, not_given
from orchestrator.nodes import named_binaries, remarks, serving_devices, verdicts_for, why_not_served
from orchestrator.outlook import outlook, outlook_lines
from orchestrator.plan_table import best_device, plan_table
from orchestrator.sweep import open_spec
from quants.models import FileModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.survey import Survey
    from orchestrator.sweep import SpecSource
    from orchestrator.terminal import Part
    from profiles.types import NodeProfile
    from runners.work import Cell


def cell_report(cell: Cell, profile: NodeProfile, jobs: int) -> dict[str, Any]:
    """One cell as JSON: its file, its jobs, and the verdict for each device of the node that would serve it."""
    verdicts = {
        device_id: {"verdict": verdict.kind.value, "headroom_bytes": verdict.headroom_bytes, "reason": verdict.reason}
        for device_id, verdict in verdicts_for(cell, profile).items()
    }
    names = serving_devices(cell, profile)
    model = cell.model
    footprints = model.footprints if isinstance(model, FileModel) else {}
    needed = predicted_bytes(footprints, next(iter(names.values()))) if names else None
    return {
        "model": model.name,
        "quant": model.quant,
        "variant": cell.variant or None,
        "source": model.source,
        "file_bytes": model.file_bytes,
        "file_sha256": (model.artifact.sha256 or None) if isinstance(model, FileModel) else None,
        "engine": cell.engine.kind,
        "context": cell.engine.context,
        "not_counted": list(cell.engine.not_counted()),
        "predicted_bytes": needed,
        "jobs": jobs,
        "verdicts": verdicts,
        "missing": why_not_served(cell, profile),
    }


def render_plan(
    source: SpecSource, found: Survey, reports: Sequence[dict[str, Any]], more: Sequence[str]
) -> list[Part]:
    """The plan for a person: what it comes to, a line a cell, what it takes (`more`), and warnings."""
    from rich.text import Text

    cells, seeds = len(found.cells), source.spec.seeds
    jobs = sum(len(exam.tasks()) for exam in found.exams.values()) * len(seeds)
    not_counted = sorted({argument for report in reports for argument in report["not_counted"]})
    scorings = {name: source.spec.scoring or exam.scorings[0] for name, exam in found.exams.items()}
    exams = ", ".join(f"{exam} ({scoring})" for exam, scoring in scorings.items())
    lines = [
        f"{source.spec.name}: {cells} cells x {jobs} = {cells * jobs} jobs",
        f"exams: {exams}; seeds: {', '.join(map(str, seeds[:12]))}{' ...' if len(seeds) > 12 else ''}",
    ]
    if found.left_out:
        lines.append(f"left out, as they fit nothing here: {', '.join(cell.label for cell, _ in found.left_out)}")
    return [
        *(Text(each) for each in lines),
        "",
        *plan_table(reports),
        *([Text(f"not counted in what a model needs: extra_args {' '.join(not_counted)}")] if not_counted else []),
        *(Text(each) for each in more),
    ]


def preview(text: str, *, as_json: bool) -> list[Part]:
    """The plan of the spec or built-in sweep `text`, with verdicts for this machine. Nothing is hashed or fetched.

    Raises:
        SweepError: the spec cannot be run.
    """
    from orchestrator.late import said_late
    from orchestrator.survey import survey
    from profiles.probe import probe_node

    source = open_spec(text)
    with said_late(lambda line: terminal.stderr().say(f"{line} ..."), "looking up models"):
        found = survey(source.spec, file=source.file, text=source.text, base_dir=source.base_dir)
        cells = [each.cell for each in found.cells]
        needs = {name: exam.needs for name, exam in found.exams.items()}
        profile = probe_node(binaries=named_binaries(cells), needs=names_of(needs))
    said = [*remarks(profile, cells), *not_given(lacking(profile, needs), needs)]
    jobs = sum(len(exam.tasks()) for exam in found.exams.values()) * len(source.spec.seeds)
    reports = [cell_report(cell, profile, jobs) for cell in cells]
    taken = outlook(cells, jobs, [best_device(report) for report in reports], profile)
    reports += [cell_report(cell, profile, 0) for cell, _ in found.left_out]
    warnings = [*found.warnings, *said]
    if as_json:
        value = {"name": source.spec.name, "jobs": len(cells) * jobs, "cells": reports, "warnings": warnings}
        return [terminal.Json({**value, "outlook": taken, "needs": [need.to_dict() for need in profile.needs]})]
    there = [f"needs {need.what}: {need.found}" for need in profile.needs if need.found is not None]
    more = [*there, *outlook_lines(taken), *(f"warning: {line}" for line in warnings)]
    return render_plan(source, found, reports, more)
