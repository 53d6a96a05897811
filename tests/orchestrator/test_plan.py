"""The plan: cells and jobs, what identifies them, and everything a person is told before anything runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from orchestrator.errors import SpecError
from orchestrator.expand import expand
from orchestrator.plan import Plan, make_job_id, spec_digest
from orchestrator.spec import parse_spec
from runners.engines.settings import LlamaCppSettings
from runners.work import Cell, cell_identity
from tests.runners.models import file_of

if TYPE_CHECKING:
    from pathlib import Path

SPEC = """\
name = "demo"
seeds = "1-3"
exams = ["todo"]

[sampling]
max_tokens = 1000

[engine]
context = 2048
threads = 1

[[models]]
name = "small"
source = "builtin:stand-in"
quants = ["Q8_0", "Q2_K"]
"""


def llama(cell: Cell) -> LlamaCppSettings:
    assert isinstance(cell.engine, LlamaCppSettings)
    return cell.engine


def plan_of(text: str, folder: Path) -> Plan:
    return expand(parse_spec(text, "demo.toml"), file="demo.toml", text=text, base_dir=folder)


def complaint(text: str, folder: Path) -> str:
    with pytest.raises(SpecError) as caught:
        plan_of(text, folder)
    return str(caught.value)


def test_cells_times_seeds(tmp_path: Path) -> None:
    plan = plan_of(SPEC, tmp_path)
    assert [cell.label for cell in plan.cells] == ["small Q8_0", "small Q2_K"]
    assert [(job.exam, job.seed) for job in plan.jobs if job.cell_id == plan.cells[1].cell_id] == [
        ("todo", 1),
        ("todo", 2),
        ("todo", 3),
    ]
    assert len({job.job_id for job in plan.jobs}) == 6
    assert plan.warnings == ()


def test_every_file_is_pinned(tmp_path: Path) -> None:
    for cell in plan_of(SPEC, tmp_path).cells:
        assert all(len(file.sha256) == 64 and file.size_bytes > 0 for file in file_of(cell).artifact.files)


def test_a_plan_survives_being_written_down(tmp_path: Path) -> None:
    plan = plan_of(SPEC, tmp_path)
    assert Plan.from_json(plan.to_json()) == plan


def test_the_same_job_has_the_same_id_whatever_it_is_called_or_where(tmp_path: Path) -> None:
    plan = plan_of(SPEC, tmp_path)
    other = plan_of(SPEC.replace('"small"', '"other"').replace('"demo"', '"another"'), tmp_path)
    assert [job.job_id for job in plan.jobs] == [job.job_id for job in other.jobs]
    longer = plan_of(SPEC + "[limits]\ngeneration_timeout_s = 5\nretries = 0\n", tmp_path)
    assert [job.job_id for job in plan.jobs] == [job.job_id for job in longer.jobs]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("max_tokens = 1000", "max_tokens = 999"),
        ("context = 2048", "context = 2047"),
        ("context = 2048", 'context = 2048\ncache_type_k = "q8_0"'),
        ("[sampling]", "[sampling]\ntemperature = 0.1"),
    ],
)
def test_what_changes_answers_changes_the_id(tmp_path: Path, old: str, new: str) -> None:
    before = {job.job_id for job in plan_of(SPEC, tmp_path).jobs}
    assert not before & {job.job_id for job in plan_of(SPEC.replace(old, new), tmp_path).jobs}


def test_seed_exam_and_version_are_part_of_the_id(tmp_path: Path) -> None:
    cell = plan_of(SPEC, tmp_path).cells[0]
    identity = cell_identity(cell.model, cell.engine, cell.sampling)
    base = {"exam": "todo", "task": "main", "prompt_version": "1", "seed": 1}
    ids = {
        make_job_id(identity, **{**base, **change})  # type: ignore[arg-type]  # a test's shorthand
        for change in ({}, {"exam": "go-v1"}, {"task": "other"}, {"prompt_version": "2"}, {"seed": 2})
    }
    assert len(ids) == 5
    assert cell_identity(cell.model, replace(cell.engine, load_timeout_s=1.0), cell.sampling) == identity


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('["todo"]', '["tood"]', "demo.toml:3: exams[0]: there is no exam called 'tood'; did you mean 'todo'?"),
        ('exams = ["todo"]', 'exams = ["todo"]\nscoring = "kind"', "scoring: exam 'todo' has no scoring 'kind'"),
        ("[engine]", '[engine]\nkind = "lama-server"', "demo.toml:9: engine.kind:"),
        ("context = 2048", "context = 512", "the context of 512 tokens is too small for model 'small'"),
        ('"Q2_K"', '"Q2_X"', "demo.toml:15: models[0].quants:"),
        ("builtin:stand-in", "nowhere.gguf", "demo.toml:14: models[0].source:"),
        ("builtin:stand-in", "builtin:other", "demo.toml:14: models[0].source:"),
        ("context = 2048", "context = 2048\nreasoning_budget = 1000", "leaves nothing after engine.reasoning_budget"),
    ],
)
def test_what_cannot_work_is_named(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert expected in complaint(SPEC.replace(old, new), tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", "empty"), (b"PK\x03\x04 not a model at all", "GGUF"), (b"GGUF\x03\x00\x00\x00\x01", "bad.gguf")],
)
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "bad.gguf").write_bytes(content)
    text = SPEC.replace("builtin:stand-in", "bad.gguf").replace('["Q8_0", "Q2_K"]', '"all"')
    assert expected in complaint(text, tmp_path)


def test_the_same_cell_under_two_names_is_refused(tmp_path: Path) -> None:
    twin = SPEC + '\n[[models]]\nname = "twin"\nsource = "builtin:stand-in"\nquants = ["Q2_K"]\n'
    assert "'twin Q2_K' is the same file with the same settings as 'small Q2_K'" in complaint(twin, tmp_path)


def test_one_seed_for_a_comparison_is_a_warning(tmp_path: Path) -> None:
    assert "one seed says nothing" in plan_of(SPEC.replace('"1-3"', "[1]"), tmp_path).warnings[0]


def test_variants_override_models_and_the_sweep(tmp_path: Path) -> None:
    text = SPEC + (
        'engine = { context = 1500 }\n[[models.variants]]\nname = "plain"\n[[models.variants]]\nname = "kv8"\n'
        'engine = { cache_type_k = "q8_0" }\nsampling = { max_tokens = 500 }\n'
    )
    plan = plan_of(text, tmp_path)
    assert [(c.variant, llama(c).context, llama(c).cache_type_k, c.sampling.max_tokens) for c in plan.cells] == [
        ("plain", 1500, "f16", 1000),
        ("plain", 1500, "f16", 1000),
        ("kv8", 1500, "q8_0", 500),
        ("kv8", 1500, "q8_0", 500),
    ]


def test_two_specs_are_told_apart_by_what_they_plan() -> None:
    spec = parse_spec(SPEC, "a")
    assert spec_digest(spec) == spec_digest(parse_spec(SPEC + "[limits]\nretries = 5\n", "b"))
    other = parse_spec(SPEC.replace("1-3", "1-4").replace("2048", "4096"), "c")
    assert spec_digest(spec) != spec_digest(other)


def test_a_model_that_does_not_fit_is_refused_with_the_nearest_that_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine is told to be smaller than the largest quant's needs, and larger than the smallest's."""
    import profiles.probe

    whole = {cell.model.quant: cell for cell in plan_of(SPEC, tmp_path).cells}
    needs = {quant: file_of(cell).footprints["cpu"].host.safe_bytes for quant, cell in whole.items()}
    assert needs["Q8_0"] > needs["Q2_K"]
    room = (needs["Q8_0"] + needs["Q2_K"]) // 2
    real = profiles.probe.probe_node()
    cpu = replace(real.device("cpu"), memory_total_bytes=room, memory_free_bytes=room)
    monkeypatch.setattr(profiles.probe, "probe_node", lambda **_: replace(real, devices=(cpu,)))
    text = complaint(SPEC, tmp_path)
    assert "demo.toml:15: models[0].quants: 'small Q8_0' does not fit this machine (cpu: needs" in text
    assert "the nearest that fits is 'Q" in text
    assert "small Q2_K" not in text
