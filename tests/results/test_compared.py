"""Two sides beside each other: which cells answer one another, what differs, and what is known of the scores."""

from __future__ import annotations

import json
from math import comb
from typing import TYPE_CHECKING, Any

import pytest

from results.compared import Compared, compare_sides, of_means
from results.matching import MappingError, match
from results.published.printed import number
from results.published.scores import scores_behind
from results.published.side import side_of_report
from results.published.source import Line, SourceError
from results.sides import Side, cells_of, name_key, side_of_run
from results.store import RunStore

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import MakeRow


@pytest.fixture
def side(tmp_path: Path, row: MakeRow) -> Any:
    """A run of cells (model, quant) with points by seed, and what else is to be in its rows."""

    def build(name: str, cells: dict[tuple[str, str], dict[int, float]], **changes: Any) -> Side:
        rows = [
            row(job_id=f"v2-{number}-{seed}", model=model, quant=quant, seed=seed, score=score, **changes)
            for number, ((model, quant), points) in enumerate(cells.items())
            for seed, score in points.items()
        ]
        RunStore(tmp_path / name).commit_many(rows)
        return side_of_run(tmp_path / name, name)

    return build


def verdicts(found: Compared) -> dict[str, tuple[str, str | None]]:
    return {cell.cell: (cell.how, cell.verdict) for cell in found.cells}


SEEDS = range(1, 41)


def test_equal_tasks_and_seeds_are_paired_and_judged(side: Any) -> None:
    ours = side("a", {("m", "Q8"): dict.fromkeys(SEEDS, 90.0), ("m", "Q2"): dict.fromkeys(SEEDS, 20.0)})
    theirs = side("b", {("m", "Q8"): dict.fromkeys(SEEDS, 20.0), ("m", "Q2"): dict.fromkeys(SEEDS, 90.0)})
    found = compare_sides(ours, theirs, {})
    assert verdicts(found) == {"m Q8": ("paired", "better"), "m Q2": ("paired", "worse")}
    (first,) = [cell for cell in found.cells if cell.cell == "m Q8"]
    assert (first.ours, first.our_mean, first.their_mean) == (40, 90.0, 20.0)
    assert first.difference == pytest.approx(70.0)
    assert first.interval is not None
    assert 0 < first.interval.low < 70 < first.interval.high <= 100
    assert not found.differences
    assert not found.alone


def test_few_seeds_decide_nothing_and_say_how_many_would(side: Any) -> None:
    ours, theirs = (side(name, {("m", "Q8"): dict.fromkeys((1, 2, 3), 100.0)}) for name in "ab")
    (cell,) = compare_sides(ours, theirs, {}).cells
    assert (cell.verdict, cell.difference) == ("undecided", 0.0)
    assert cell.more_seeds is not None
    assert cell.more_seeds > 20


def test_answers_of_other_seeds_are_compared_by_their_means(side: Any) -> None:
    ours = side("a", {("m", "Q8"): dict.fromkeys(range(1, 31), 90.0)})
    theirs = side("b", {("m", "Q8"): dict.fromkeys(range(101, 131), 20.0)})
    (cell,) = compare_sides(ours, theirs, {}).cells
    assert (cell.how, cell.verdict) == ("means", "better")
    assert cell.difference == pytest.approx(70.0)
    assert (cell.ours, cell.theirs) == (30, 30)


@pytest.mark.parametrize(("how", "seeds", "apart"), [("paired", 8, 0), ("means", 5, 100)])
def test_verdicts_of_many_cells_are_looked_at_together(side: Any, how: str, seeds: int, apart: int) -> None:
    """A difference that shows by itself does not show where it is the largest of thirty."""
    best, same = dict.fromkeys(range(1, seeds + 1), 100.0), dict.fromkeys(range(1, seeds + 1), 0.0)
    theirs = dict.fromkeys(range(1 + apart, seeds + apart + 1), 0.0)
    (alone,) = compare_sides(side("a", {("m", "Q0"): best}), side("b", {("m", "Q0"): theirs}), {}).cells
    assert (alone.how, alone.verdict) == (how, "better")
    many = {("m", f"Q{number}"): same if number else best for number in range(30)}
    others = {("m", f"Q{number}"): theirs for number in range(30)}
    together = compare_sides(side("c", many), side("d", others), {}).cells
    (first,) = [cell for cell in together if cell.cell == "m Q0"]
    assert first.verdict == "undecided"
    assert first.interval == alone.interval, "what is shown is of 95% in any case"


def test_only_shared_seeds_count_where_there_are_any(side: Any) -> None:
    ours = side("a", {("m", "Q8"): {1: 100.0, 2: 100.0, 3: 0.0}})
    theirs = side("b", {("m", "Q8"): {1: 0.0, 2: 100.0, 9: 100.0}})
    (cell,) = compare_sides(ours, theirs, {}).cells
    assert (cell.how, cell.ours, cell.our_mean, cell.their_mean) == ("paired", 2, 100.0, 50.0)


def test_what_differs_is_found_and_hardware_comes_first(side: Any) -> None:
    one: dict[str, Any] = {"sampling": '{"temperature": 0.8}', "hardware_class": "cpu-x", "engine_build": "b1"}
    two: dict[str, Any] = {"sampling": '{"temperature": 1.0, "top_k": 20}', "hardware_class": "gpu-y", "context": 4096}
    two |= {"engine_build": "b2", "engine_settings": '{"kind": "embedded", "context": 4096, "threads": 2}'}
    cells = {("m", "Q8"): {1: 50.0}}
    found = {
        each.name: (each.ours, each.theirs)
        for each in compare_sides(side("a", cells, **one), side("b", cells, **two), {}).differences
    }
    assert list(found)[:2] == ["hardware", "engine build"]
    assert found == {
        "hardware": (("cpu-x",), ("gpu-y",)),
        "engine build": (("b1",), ("b2",)),
        "sampling temperature": (("0.8",), ("1",)),
        "context": ((), ("4096",)),
        "sampling top_k": ((), ("20",)),
        "engine threads": ((), ("2",)),
    }


@pytest.mark.parametrize("column", ["prompt_version", "grader_version"])
def test_other_questions_or_graders_give_no_verdict(side: Any, column: str) -> None:
    cells = {("m", "Q8"): {1: 50.0, 2: 60.0}}
    (cell,) = compare_sides(side("a", cells), side("b", cells, **{column: "2"}), {}).cells
    assert (cell.how, cell.verdict, cell.interval) == ("none", None, None)
    assert cell.why_not.startswith(f"{column.replace('_', ' ')} 1 against 2")


def test_the_scoring_that_both_have_is_taken(side: Any) -> None:
    cells = {("m", "Q8"): {1: 50.0}}
    ours = side("a", cells, scoring="strict", scores='{"strict": 50, "published": 80}')
    theirs = side("b", cells, scoring="published", scores='{"published": 50}')
    (cell,) = compare_sides(ours, theirs, {}).cells
    assert (cell.scoring, cell.our_mean, cell.their_mean) == ("published", 80.0, 50.0)
    other = side("c", cells, scoring="corrected", scores='{"corrected": 50}')
    (cell,) = compare_sides(ours, other, {}).cells
    assert cell.verdict is None
    assert cell.why_not == "no scoring in common: strict, published against corrected"


def test_a_failure_of_the_machine_is_no_score(side: Any, row: MakeRow, infrastructure_row: MakeRow) -> None:
    from results.columnar import as_table
    from results.rows import complete_row

    rows = [complete_row(infrastructure_row(scores=None)), complete_row(row(job_id="v2-b", seed=2, score=70.0))]
    (cell,) = cells_of(as_table(rows))
    assert cell.scores["published"] == {("main", 2): 70.0}


class TestNames:
    def test_names_may_differ_in_case_and_punctuation_and_in_nothing_else(self) -> None:
        assert name_key("Gemma 4 26B") == name_key("gemma-4_26b")
        assert name_key("Qwen3.5-35B") == name_key("qwen3-5-35b") != name_key("qwen3.6-35b")

    def test_what_nothing_answers_says_why_and_how_to_name_it(self, side: Any) -> None:
        theirs = side_of_report("published:go-exams")
        points = {1: 5.0}
        ours = side(
            "a",
            {
                ("gemma-4-26b", "mxfp4_moe"): points,
                ("gemma-4-26b-a4b", "UD-Q5_K_M"): points,
                ("Gemma 4 26B", "Q8_0"): points,
                ("gpt-oss-20b", "MXFP4"): points,
                ("qwen3-coder-30b", "Q8_0"): points,
                ("stranger", "Q8_0"): points,
            },
            exam="go-v2",
            score_max=10.0,
        )
        found = match(ours, theirs, {})
        assert [(mine.label, other.label) for mine, other in found.both] == [
            ("gemma-4-26b mxfp4_moe", "Gemma 4 26B MXFP4_MOE"),
            ("gemma-4-26b-a4b UD-Q5_K_M", "Gemma 4 26B UD-Q5_K_M"),  # by the name of the catalogue
        ]
        why = {each.cell: each.why for each in found.alone if each.side == 0}
        assert why["Gemma 4 26B Q8_0"].startswith("not with this quant; there are: UD-Q4_K_M, MXFP4_MOE")
        assert '--map "gpt-oss-20b MXFP4=gpt-oss-20b"' in why["gpt-oss-20b MXFP4"]
        assert why["stranger Q8_0"].startswith("no model of that name; there are: Gemma 4 26B")
        there = {each.cell: each.why for each in found.alone if each.side == 1 and each.exam == "go-v1"}
        assert set(there.values()) == {"the other has nothing on go-v1"}
        given = {
            "gpt-oss-20b MXFP4": "gpt-oss-20b",
            "stranger": "Qwen3.5-35B",
            "Gemma 4 26B Q8_0": "Gemma 4 26B UD-Q4_K_M",
        }
        mapped = {mine.label: other.label for mine, other in match(ours, theirs, given).both}
        assert mapped["gpt-oss-20b MXFP4"] == "gpt-oss-20b"
        assert mapped["Gemma 4 26B Q8_0"] == "Gemma 4 26B UD-Q4_K_M"
        assert "stranger Q8_0" not in mapped, "its quant is not there"
        as_printed = {"stranger Q8_0": "Gemma 4 26B MXFP4", "gemma-4-26b mxfp4_moe": "Qwen3.5-9B"}
        assert ("stranger Q8_0", "Gemma 4 26B MXFP4_MOE") in [
            (mine.label, other.label) for mine, other in match(ours, theirs, as_printed).both
        ]
        by_variant = {"qwen3-coder-30b Q8_0": "Qwen3-Coder-30B (draft)"}
        assert ("qwen3-coder-30b Q8_0", "Qwen3-Coder-30B (draft)") in [
            (mine.label, other.label) for mine, other in match(ours, theirs, by_variant).both
        ]

    @pytest.mark.parametrize("given", [{"nobody": "gpt-oss-20b"}, {"m Q8": "nobody"}, {"m": "gpt"}])
    def test_a_name_that_is_not_there_is_refused(self, side: Any, given: dict[str, str]) -> None:
        ours = side("a", {("m", "Q8"): {1: 5.0}}, exam="go-v2")
        with pytest.raises(MappingError, match="has no model or cell"):
            match(ours, side_of_report("published:go-exams"), given)

    def test_two_that_claim_one_are_not_both_given_it(self, side: Any) -> None:
        ours = side(
            "a", {("gemma-4-26b", "MXFP4_MOE"): {1: 5.0}, ("gemma-4-26b-a4b", "MXFP4_MOE"): {1: 5.0}}, exam="go-v2"
        )
        found = match(ours, side_of_report("published:go-exams"), {})
        assert [mine.model for mine, _ in found.both] == ["gemma-4-26b"]
        assert "another cell of this side" in next(each.why for each in found.alone)


class TestPublished:
    def test_a_run_is_compared_with_a_report_by_means(self, side: Any) -> None:
        points = {seed: float(score) for seed, score in zip(range(1, 41), [0, 0, 1, 0] * 10, strict=True)}
        scores = json.dumps({"published": 0})
        ours = side("a", {("Gemma 4 26B", "UD-Q4_K_M"): points}, exam="go-v1", score_max=15.0, scores=scores)
        (cell,) = compare_sides(ours, side_of_report("published:go-exams"), {}).cells
        assert (cell.how, cell.ours, cell.theirs, cell.their_mean) == ("means", 40, 3, 14.0)
        assert cell.verdict == "worse"
        assert "score" in cell.wrong
        assert cell.their_tps == 18.6

    def test_conditions_that_the_report_says_stand_beside_ours(self, side: Any) -> None:
        ours = side("a", {("Devstral", "Q4_K_M"): {1: 100.0}}, sampling='{"max_tokens": 8192, "temperature": 0.8}')
        found = compare_sides(ours, side_of_report("published:todo-cli"), {"Devstral Q4_K_M": "Devstral"})
        by_name = {each.name: (each.ours, each.theirs) for each in found.differences}
        assert by_name["hardware"] == (("cpu-x",), ("RTX 5090, 32 GB",))
        assert by_name["sampling max_tokens"] == (("8192",), ("4096",))
        assert by_name["sampling temperature"] == (("0.8",), ())
        assert by_name["prompt version"] == (("1",), ("the report's own",))

    def test_there_is_no_such_report(self) -> None:
        with pytest.raises(SourceError, match="there is no published report 'nowhere'"):
            side_of_report("published:nowhere")

    def test_a_report_on_episodes_has_no_scores(self, side: Any) -> None:
        ours = side("a", {("Hermes 4 14B", "Q8_0"): {1: 10.0}}, exam="tag-manager")
        (cell,) = compare_sides(ours, side_of_report("published:tag-manager"), {}).cells
        assert (cell.verdict, cell.why_not) == (None, "no score on one side")


@pytest.mark.parametrize(
    ("cells", "points", "sure"),
    [
        ({"score": "14.3", "score_low": "14", "score_high": "15"}, (14, 14, 15), True),
        ({"score": "12.0", "score_low": "9", "score_high": "14"}, (9, 13, 14), True),
        ({"score": "2.7", "compiles": "1", "compiled_from": 1, "score_max": "10"}, (0, 0, 8), True),
        ({"score": "4.0", "compiles": "2", "compiled_from": 1, "score_max": "10"}, (0, 2, 10), False),
        ({"score": "4.5", "score_low": "4", "score_high": "5"}, None, True),
        ({"score": "28", "score_max": "100", "seeds": None}, (28,), True),
        ({"score": "28", "score_step": None}, None, True),
    ],
)
def test_scores_behind_a_printed_mean(cells: dict[str, Any], points: tuple[int, ...] | None, sure: bool) -> None:
    said = {"score_max": "15", "score_step": "1", "seeds": [42, 123, 456]} | cells
    values = {key: number(value) if isinstance(value, str) else value for key, value in said.items()}
    found = scores_behind(Line("r", "t", (1,), "m", frozenset(values), values))
    assert (found and found.points) == points
    if found:
        assert found.sure == sure


def test_the_interval_of_two_means_is_that_of_one_where_the_other_is_known() -> None:
    found = of_means((10.0,) * 3, (0.0,) * 100_000, 10.0, 0.95)
    assert found.low == pytest.approx(10 * 0.025 ** (1 / 3), abs=0.01)  # Clopper and Pearson, 3 of 3
    assert found.high == 10.0
    back = of_means((0.0,) * 100_000, (10.0,) * 3, 10.0, 0.95)
    assert (back.low, back.high) == (-found.high, -found.low)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.8])
def test_equal_cells_are_told_apart_in_five_of_a_hundred_draws_at_most(rate: float) -> None:
    """Every outcome of five answers against five, passed or failed, with its probability."""
    wrong = 0.0
    for ours in range(6):
        for theirs in range(6):
            found = of_means([1.0] * ours + [0.0] * (5 - ours), [1.0] * theirs + [0.0] * (5 - theirs), 1.0, 0.95)
            if found.low > 0 or found.high < 0:
                passed = ours + theirs
                wrong += comb(5, ours) * comb(5, theirs) * rate**passed * (1 - rate) ** (10 - passed)
    assert 0 < wrong < 0.05
