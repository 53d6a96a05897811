"""`quantsweep plan`: what a sweep would run and whether this machine can serve it, without running anything."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from orchestrator import terminal
from orchestrator.fitting import predicted_bytes
from orchestrator.nodes import engine_is_there, serving_devices, verdicts_for
from orchestrator.sweep import open_spec
from quants.fit import VerdictKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.plan import Cell, Plan
    from orchestrator.terminal import Part
    from profiles.types import NodeProfile


def cell_report(cell: Cell, profile: NodeProfile, jobs: int) -> dict[str, Any]:
    """One cell as JSON: its file, its jobs, and the verdict for each device of the node that would serve it."""
    verdicts = {
        device_id: {"verdict": verdict.kind.value, "headroom_bytes": verdict.headroom_bytes, "reason": verdict.reason}
        for device_id, verdict in verdicts_for(cell, profile).items()
    }
    names = serving_devices(cell, profile)
    needed = predicted_bytes(cell.footprints, next(iter(names.values()))) if names else None
    missing = None if engine_is_there(cell, profile) else f"{cell.engine.kind} is not on this machine"
    return {
        "model": cell.model,
        "quant": cell.artifact.quant,
        "variant": cell.variant or None,
        "source": cell.artifact.source,
        "file_bytes": cell.artifact.file_bytes,
        "file_sha256": cell.artifact.sha256,
        "engine": cell.engine.kind,
        "context": cell.engine.context,
        "predicted_bytes": needed,
        "jobs": jobs,
        "verdicts": verdicts,
        "missing": missing,
    }


def _sentence(report: dict[str, Any]) -> str:
    """What the table says of a cell: the best verdict, or why there is none."""
    if report["missing"]:
        return str(report["missing"])
    order = [VerdictKind.FITS, VerdictKind.FITS_OFFLOADED, VerdictKind.UNKNOWN, VerdictKind.TOO_BIG]
    found = sorted(report["verdicts"].items(), key=lambda item: order.index(VerdictKind(item[1]["verdict"])))
    if not found:
        return "no device that may be used"
    device_id, verdict = found[0]
    kind, reason = verdict["verdict"], verdict["reason"]
    return f"{device_id}: {reason}" if reason.startswith(kind) else f"{device_id}: {kind}, {reason}"


def render_plan(plan: Plan, reports: Sequence[dict[str, Any]]) -> list[Part]:
    """The plan as a table for a person."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name, justify in (("model", "left"), ("quant", "left"), ("size", "right"), ("jobs", "right"), ("here", "left")):
        table.add_column(name, justify=justify, no_wrap=name != "here")  # type: ignore[arg-type]  # the two above
    for report in reports:
        model = report["model"] + (f" ({report['variant']})" if report["variant"] else "")
        size = f"{report['file_bytes'] / 1e6:,.1f} MB"
        table.add_row(model, report["quant"], size, str(report["jobs"]), _sentence(report))
    exams = ", ".join(f"{exam} ({scoring})" for exam, scoring in plan.scoring.items())
    seeds = sorted({job.seed for job in plan.jobs})
    return [
        f"{plan.name}: {len(plan.cells)} cells x {len(plan.jobs) // max(len(plan.cells), 1)} = {len(plan.jobs)} jobs",
        f"exams: {exams}; seeds: {', '.join(map(str, seeds[:12]))}{' ...' if len(seeds) > 12 else ''}",
        "",
        table,
        *(f"warning: {warning}" for warning in plan.warnings),
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
    profile = probe_node()
    jobs = Counter(job.cell_id for job in plan.jobs)
    reports = [cell_report(cell, profile, jobs[cell.cell_id]) for cell in plan.cells]
    if as_json:
        value = {"name": plan.name, "jobs": len(plan.jobs), "cells": reports, "warnings": list(plan.warnings)}
        return [terminal.Json(value)]
    return render_plan(plan, reports)
