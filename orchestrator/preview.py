"""`quantsweep plan`: what a sweep would run and whether this machine can serve it, without running anything."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator import terminal
from orchestrator.fitting import footprint_on
from orchestrator.needs import lacking, names_of, not_given
from orchestrator.nodes import named_binaries, named_endpoints, remarks, verdicts_for
from orchestrator.outlook import outlook, outlook_lines
from orchestrator.places import serving_places, why_not_served
from orchestrator.plan_table import best_place, plan_table, verdict_rate
from orchestrator.rates import predicted_decode, predictor_of, rate_json
from orchestrator.rundir import RunDir, default_folder
from orchestrator.sweep import machines_at, open_spec
from orchestrator.unreached import said_of
from quants.models import FileModel
from results.figures import count
from results.seed_notes import rule_text
from runners.engines.settings import LlamaCppSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orchestrator.survey import Survey
    from orchestrator.sweep import SpecSource
    from orchestrator.terminal import Part
    from profiles.types import NodeProfile
    from quants.speed.predictor import Predictor
    from runners.work import Cell


def cell_report(
    cell: Cell, profiles: Sequence[NodeProfile], jobs: int, rates: Predictor | None = None
) -> dict[str, Any]:
    """One cell as JSON: its file, its jobs, and the verdict for each device of the nodes that would serve it, with the
    decode rate that `rates` predicts there.

    Devices have their node's name before them where there are several.
    """
    verdicts = {
        _named(profile, place_id, profiles): {
            "verdict": verdict.kind.value,
            "headroom_bytes": verdict.headroom_bytes,
            "reason": verdict.reason,
            "decode": None if rates is None else _rate(cell, profile, place_id, rates),
        }
        for profile in profiles
        for place_id, verdict in verdicts_for(cell, profile).items()
    }
    missing = [why_not_served(cell, profile) for profile in profiles]
    model = cell.model
    places = [place for profile in profiles for place in serving_places(cell, profile).values()]
    footprints = model.footprints if isinstance(model, FileModel) else {}
    footprint = footprint_on(footprints, places[0], cell.engine) if places else None
    return {
        "model": model.name,
        "quant": model.quant,
        "variant": cell.variant or None,
        "source": model.source,
        "file_bytes": model.file_bytes,
        "file_sha256": (model.artifact.sha256 or None) if isinstance(model, FileModel) else None,
        "engine": cell.engine.kind,
        "context": cell.engine.context if isinstance(cell.engine, LlamaCppSettings) else None,
        "not_counted": list(cell.engine.not_counted()),
        "predicted_bytes": footprint.peak_bytes if footprint is not None else None,
        "jobs": jobs,
        "verdicts": verdicts,
        "missing": "; ".join(why for why in missing if why) if all(missing) else None,
        "unreached": None,
    }


def _rate(cell: Cell, profile: NodeProfile, place_id: str, rates: Predictor) -> dict[str, Any] | None:
    place = serving_places(cell, profile).get(place_id)
    found = None if place is None else predicted_decode(cell, place, profile, rates)
    return None if found is None else rate_json(found)


def _named(profile: NodeProfile, place_id: str, profiles: Sequence[NodeProfile]) -> str:
    return place_id if len(profiles) == 1 else f"{profile.hostname}/{place_id}"


def render_plan(
    source: SpecSource, found: Survey, reports: Sequence[dict[str, Any]], more: Sequence[str]
) -> list[Part]:
    """The plan for a person: what it comes to, a line a cell, what it takes (`more`), and warnings."""
    from rich.text import Text

    cells, seeds = len(found.cells) + len(_unknown(found, 0)), source.spec.seeds
    tasks = sum(len(exam.tasks()) for exam in found.exams.values())
    jobs, rule = tasks * len(seeds), source.spec.seeding
    if rule is None:
        each, in_all = count(jobs, "job"), count(cells * jobs, "job")
        seeds_text = f"{', '.join(map(str, seeds[:12]))}{' ...' if len(seeds) > 12 else ''}"
    else:
        least = tasks * rule.least
        each, in_all = f"{least:,} to {count(jobs, 'job')}", f"{cells * least:,} to {count(cells * jobs, 'job')}"
        seeds_text = f"by score, {rule_text(rule)}"
    not_counted = sorted({argument for report in reports for argument in report["not_counted"]})
    scorings = {name: source.spec.scoring or exam.scorings[0] for name, exam in found.exams.items()}
    exams = ", ".join(f"{exam} ({scoring})" for exam, scoring in scorings.items())
    lines = [
        f"{source.spec.name}: {count(cells, 'cell')} x {each} = {in_all}",
        f"exams: {exams}; seeds: {seeds_text}",
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


def _unknown(found: Survey, jobs: int) -> list[dict[str, Any]]:
    """Cells of models whose source does not answer."""
    return [report for each in found.unreached for report in each.reports(jobs)]


def preview(text: str, *, as_json: bool, address: str | None = None, measured: Sequence[Path] = ()) -> list[Part]:
    """The plan of the spec or built-in sweep `text`, with verdicts for this machine. Nothing is hashed or fetched.

    Rates are predicted from published ones, from the sweep's own run folder if there is one, and from the runs in
    `measured`. With `address` the verdicts are those for the nodes of the cluster there. Where the Hub cannot be asked,
    the plan says what it does not know.

    Raises:
        SweepError: the spec cannot be run.
        RunFolderError: one of `measured` is no run folder.
        StoreError: a newer quantsweep wrote one.
    """
    from orchestrator.late import said_late
    from orchestrator.newcomers import run_before
    from orchestrator.survey import survey
    from profiles.probe import probe_node

    source = open_spec(text)
    own = default_folder(source.spec.name)
    rates = predictor_of(measured, own=own)
    with said_late(lambda line: terminal.stderr().say(f"{line} ..."), "looking up models"):
        local = address is None
        # Where `run` would go on with a run, quants have the names that they have there.
        before = run_before(RunDir(own), source.spec, source.base_dir)
        found = survey(
            source.spec,
            file=source.file,
            text=source.text,
            base_dir=source.base_dir,
            local=local,
            machines=None if address is None else partial(machines_at, address, source),
            earlier=before.cells,
            may_lack=True,
        )
        asked = [each.cell for each in found.cells]
        needs = {name: exam.needs for name, exam in found.exams.items()}
        if address is None:
            profiles = [
                probe_node(binaries=named_binaries(asked), endpoints=named_endpoints(asked), needs=names_of(needs))
            ]
            said: list[str] = []
        else:
            from orchestrator.cluster import probe_cluster
            from orchestrator.misfits import without_misfits

            profiles, notes = probe_cluster(address, names_of(needs), named_binaries(asked), named_endpoints(asked))
            said = [note.removeprefix("warning: ") for note in notes]
            found = without_misfits(source.spec, found, profiles)
    cells = [each.cell for each in found.cells]
    for profile in profiles:
        lines = [*remarks(profile, cells), *not_given(lacking(profile, needs), needs)]
        said += lines if local else [f"{profile.hostname}: {line}" for line in lines]
    tasks, rule = sum(len(exam.tasks()) for exam in found.exams.values()), source.spec.seeding
    jobs = tasks * len(source.spec.seeds)
    least = jobs if rule is None else tasks * rule.least
    reports = [cell_report(cell, profiles, jobs, rates) for cell in cells]
    taken = None
    if local:  # of this machine: it fetches nothing else
        pairs = zip(cells, reports, strict=True)
        best = [serving_places(cell, profiles[0]).get(best_place(report)) for cell, report in pairs]
        decode = [verdict_rate(report) for report in reports]
        taken = outlook(cells, jobs, best, least=least, decode_tps=decode)
    unknown = _unknown(found, jobs)
    reports += [*unknown, *(cell_report(cell, profiles, 0) for cell, _ in found.left_out)]
    for report in reports:
        report["jobs_least"] = least if report["jobs"] else 0
    warnings = [*found.warnings, *before.newcomers, *said, *said_of(found.unreached)]
    have = [(profile, need) for profile in profiles for need in profile.needs]
    if as_json:
        planned = len(cells) + len(unknown)
        number = {"jobs": planned * jobs, "jobs_least": planned * least}
        value = {"name": source.spec.name, **number, "cells": reports, "warnings": warnings}
        return [terminal.Json({**value, "outlook": taken, "needs": [need.to_dict() for _, need in have]})]
    there = [
        f"needs {need.what}: {need.found}{'' if local else f' ({profile.hostname})'}"
        for profile, need in have
        if need.found is not None
    ]
    more = [*there, *(outlook_lines(taken) if taken else []), *(f"warning: {line}" for line in warnings)]
    return render_plan(source, found, reports, more)
