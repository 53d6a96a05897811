"""`quantsweep plan`: what a sweep would run and whether this machine can serve it, without running anything."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from orchestrator import terminal
from orchestrator.fitting import predicted_bytes
from orchestrator.nodes import named_binaries, remarks, serving_devices, verdicts_for, why_not_served
from orchestrator.plan_table import plan_table
from orchestrator.sweep import open_spec
from quants.models import FileModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.plan import Plan
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
        "file_sha256": model.artifact.sha256 if isinstance(model, FileModel) else None,
        "engine": cell.engine.kind,
        "context": cell.engine.context,
        "not_counted": list(cell.engine.not_counted()),
        "predicted_bytes": needed,
        "jobs": jobs,
        "verdicts": verdicts,
        "missing": why_not_served(cell, profile),
    }


def render_plan(plan: Plan, reports: Sequence[dict[str, Any]], warnings: Sequence[str] = ()) -> list[Part]:
    """The plan for a person: what it comes to, a line a cell, and warnings: these beside its own."""
    from rich.text import Text

    not_counted = sorted({argument for report in reports for argument in report["not_counted"]})
    exams = ", ".join(f"{exam} ({scoring})" for exam, scoring in plan.scoring.items())
    seeds = sorted({job.seed for job in plan.jobs})
    lines = [
        f"{plan.name}: {len(plan.cells)} cells x {len(plan.jobs) // max(len(plan.cells), 1)} = {len(plan.jobs)} jobs",
        f"exams: {exams}; seeds: {', '.join(map(str, seeds[:12]))}{' ...' if len(seeds) > 12 else ''}",
    ]
    return [
        *(Text(each) for each in lines),
        "",
        *plan_table(reports),
        *([Text(f"not counted in what a model needs: extra_args {' '.join(not_counted)}")] if not_counted else []),
        *(Text(f"warning: {warning}") for warning in (*plan.warnings, *warnings)),
    ]


def preview(text: str, *, as_json: bool) -> list[Part]:
    """The plan of the spec or built-in sweep `text`, with verdicts for this machine.

    Raises:
        SweepError: the spec cannot be run.
    """
    from orchestrator.expand import expand
    from profiles.probe import probe_node

    source = open_spec(text)
    plan = expand(
        source.spec,
        file=source.file,
        text=source.text,
        base_dir=source.base_dir,
        status=lambda line: terminal.stderr().say(f"{line} ..."),
    )
    profile = probe_node(binaries=named_binaries(plan.cells))
    said = remarks(profile, plan.cells)
    jobs = Counter(job.cell_id for job in plan.jobs)
    reports = [cell_report(cell, profile, jobs[cell.cell_id]) for cell in plan.cells]
    if as_json:
        value = {"name": plan.name, "jobs": len(plan.jobs), "cells": reports, "warnings": [*plan.warnings, *said]}
        return [terminal.Json(value)]
    return render_plan(plan, reports, said)
