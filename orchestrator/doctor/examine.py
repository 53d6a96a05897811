"""All checks of `quantsweep doctor`, one after the other: machine, engines and their devices, sandbox, exams."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestrator.doctor.findings import Diagnosis, Finding
from orchestrator.errors import lines_of, user_errors
from profiles.programs import HOW_TO_GET_IT
from runners.told import told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from profiles.types import FoundEngine, NodeProfile
    from runners.exams.base import Specimen

    Say = Callable[[str], object]

_ANOTHER_BUILD: Final = (
    'use a build of llama.cpp with a backend for it (CMAKE_ARGS="-DGGML_CUDA=ON" make llama-cpp, or -DGGML_VULKAN=ON)'
)
_ON_ENGINES: Final = frozenset({"device-unmatched", "engine-without-gpu", "device-match-assumed", "engine-unusable"})
"""Notices of the profile that the checks of engines say in their own words."""


def examine(say: Say = lambda _: None) -> Diagnosis:
    """Tries everything; each check by itself, so that one that fails keeps no other from being made.

    Args:
        say: told what is being done.
    """
    began_s = time.monotonic()
    findings: list[Finding] = []
    found: list[NodeProfile] = []

    def look() -> Iterator[Finding]:
        from profiles.probe import probe_node

        say("looking at the machine and asking its engines")
        found.append(probe_node())
        yield from machine_findings(found[0])

    findings += _guarded("the machine", look)
    profile = found[0] if found else None
    if profile is not None:
        for engine in profile.engines:
            findings += _guarded(engine.kind, lambda engine=engine: _engine(engine, profile, say))  # type: ignore[misc]  # mypy infers no lambda with a default
        findings += _guarded("engines", lambda: engine_findings(profile))
    findings += _guarded("what exams need", lambda: _needs(say))
    findings += _guarded("the sandbox", lambda: _sandbox(say))
    return Diagnosis(tuple(findings), profile, time.monotonic() - began_s)


def machine_findings(profile: NodeProfile) -> Iterator[Finding]:
    """What the probes noticed, besides what the engines' own checks say."""
    yield Finding("ok", "the machine", f"{profile.os} {profile.arch}, {profile.cpu_model or 'CPU unknown'}")
    for notice in profile.warnings:
        if notice.code not in _ON_ENGINES:
            yield Finding("note", notice.device_id or "the machine", notice.message)


def engine_findings(profile: NodeProfile) -> Iterator[Finding]:
    """Whether there is an engine at all, and for each GPU one that computes on it."""
    usable = [engine for engine in profile.engines if engine.problem is None]
    if not usable:
        cure = "python -m pip install xllamacpp, or make llama-cpp"
        yield Finding("off", "engines", "no engine is here, or none that works", cure)
    for device in profile.gpus:
        if device.excluded is not None:
            yield Finding("note", device.id, f"{device.name} is left alone: {device.excluded}")
            continue
        matches = [(engine, engine.match(device.id)) for engine in usable]
        known = [(engine, match) for engine, match in matches if match is not None and match.name is not None]
        if not known:
            said = "; ".join(f"{engine.kind}: {match.how}" for engine, match in matches if match is not None)
            yield Finding(
                "off", device.id, f"no engine computes on {device.name}: {said or 'none is here'}", _ANOTHER_BUILD
            )
        elif not device.usable:
            cure = f"say it in machine.toml: [device.{device.id}] memory = ..."
            yield Finding("off", device.id, f"nothing is placed on {device.name}: its memory is not known", cure)
        for engine, match in known:
            if not match.sure:
                cure = "harmless for equal cards with nothing else on them; a build that tells PCI addresses settles it"
                said = f"taken to be {match.listed_as} of {engine.kind}: {match.how}"
                yield Finding("note", device.id, said, cure)


def _engine(engine: FoundEngine, profile: NodeProfile, say: Say) -> Iterator[Finding]:
    from orchestrator.doctor.trials import run_trial, trials_of
    from runners.engines import file_engine_kinds

    origin = f", from {engine.origin}" if engine.origin else ""
    if engine.problem is not None:
        cure = "" if HOW_TO_GET_IT in engine.problem else f"another build: {HOW_TO_GET_IT}"
        yield Finding("off", engine.kind, engine.problem, cure)
        return
    listed = ", ".join(f"{each.name} ({each.description})" for each in engine.devices) or "the CPU alone"
    yield Finding("ok", engine.kind, f"{engine.build or 'build unknown'}{origin}; it computes on {listed}")
    if engine.kind not in file_engine_kinds():
        yield Finding("note", engine.kind, "found: a spec that names it asks its server; nothing is tried here")
        return
    for trial in trials_of(engine.kind, profile):
        say(f"serving the stand-in with {trial.about}")
        yield from _guarded(trial.about, lambda trial=trial: iter(run_trial(trial)))  # type: ignore[misc]  # as above


def _needs(say: Say) -> Iterator[Finding]:
    """What the exams need besides the sandbox. A machine that lacks it is not off: it is not given their jobs."""
    from orchestrator.needs import names_of, needs_of
    from profiles.probe.needs import find_needs
    from runners.exams import exam_names

    needs = needs_of(exam_names())
    for need in find_needs(names_of(needs)):
        say(f"trying {need.what}")
        exams = ", ".join(name for name, needed in needs.items() if need.name in needed)
        if need.found is not None:
            yield Finding("ok", need.what, f"{need.found}, for {exams}")
        else:
            said = f"{need.problem}: this machine is given no jobs of {exams}"
            yield Finding("note", need.what, said, need.cure or "")


def _sandbox(say: Say) -> Iterator[Finding]:
    from runners.exams import exam_names
    from runners.sandbox import open_sandbox

    say("running a program in the sandbox")
    sandbox = open_sandbox()
    yield Finding("ok", "the sandbox", sandbox.isolation)
    for name in exam_names():
        say(f"grading the reference of the exam {name}")
        yield from _guarded(f"exam {name}", lambda name=name: _exam(name))  # type: ignore[misc]  # as above


def _exam(name: str) -> Iterator[Finding]:
    """The exam's reference has to score full marks here: that takes every tool that the grader runs."""
    from profiles.probe.needs import find_needs
    from runners.exams import get_exam
    from runners.exams.base import Reply, Transcript
    from runners.exams.box import Box
    from runners.sandbox import open_sandbox

    exam = get_exam(name)
    if any(need.found is None for need in find_needs(exam.needs)):
        return  # said where its needs were tried
    for specimen in exam.specimens():
        if specimen.kind != "reference":
            continue
        with tempfile.TemporaryDirectory(prefix="quantsweep-doctor-", ignore_cleanup_errors=True) as folder:
            task = specimen.task_of(exam)
            transcript = Transcript.of(task, Reply(specimen.text, finish_reason="stop"))
            grade = exam.grade(task, transcript, Box(open_sandbox(), Path(folder)))
        low = [f"{scoring} {score:g}" for scoring, score in grade.scores.items() if score < exam.score_max]
        if low:
            said = f"its {name_of(specimen)} scores {', '.join(low)} of {exam.score_max:g} here"
            said += f": {(grade.log or '?')[-300:]}"
            yield Finding("off", f"exam {name}", said, f"quantsweep exams check {name} says more")
        else:
            yield Finding("ok", f"exam {name}", f"its {name_of(specimen)} scores {exam.score_max:g}")


def name_of(reference: Specimen) -> str:
    """A reference by its name, where that says more than that it is one."""
    return reference.name if "reference" in reference.name else f"reference {reference.name}"


def _guarded(about: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a check; whatever fails in it is a finding too."""
    try:
        yield from check()
    except user_errors() as error:
        said, *more = lines_of(error)
        yield Finding("off", about, said, "; ".join(more))
    except Exception as error:  # a check must not keep the others from being made, whatever it met
        yield Finding("off", about, f"the check failed: {told(error)}", "please report it")
