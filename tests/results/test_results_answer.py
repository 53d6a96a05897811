from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from results.answer import Answer, answers
from results.reading import read_run
from results.stats import Interval
from results.store import RunStore
from results.summary import QuantSummary, Score, summarise
from results.timings import Timings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from results.verdict import Comparison
    from tests.results.conftest import MakeRow


def quant(
    name: str, file_bytes: int | None, scores: list[float], full: float = 100.0, *, tasks: tuple[str, ...] = ("main",)
) -> QuantSummary:
    """A summary with nothing in it but what an answer looks at; the scores are those of the first seed, then on."""
    return QuantSummary(
        model="m",
        quant=name,
        variant="default",
        exam="todo",
        prompt_versions=("1",),
        grader_versions=("1",),
        scorings=("published",),
        score_max=full,
        file_bytes=file_bytes,
        jobs=len(scores),
        open_jobs=0,
        infrastructure=0,
        budget=0,
        retried=0,
        regraded=0,
        scores=tuple(
            Score(tasks[place % len(tasks)], 1 + place // len(tasks), score) for place, score in enumerate(scores)
        ),
        mean=sum(scores) / len(scores) if scores else None,
        strict_mean=None,
        low=min(scores, default=None),
        high=max(scores, default=None),
        sd=None,
        interval=Interval(0, 1),
        full_marks=0,
        full_marks_interval=None,
        built=0,
        built_interval=None,
        coverage=1.0,
        outcomes={},
        load_s=None,
        peak_ram_bytes=None,
        peak_vram_bytes=None,
        timings=Timings(0, False, None, None, None, None, (), 0, 0, 0),
    )


def compare(one: QuantSummary, larger: QuantSummary) -> Comparison:
    """The comparison of two quants that are the only ones of their model."""
    return answer(larger, one).comparisons[0]


def answer(*summaries: QuantSummary) -> Answer:
    (found,) = answers(summaries)
    return found


def test_the_smallest_that_kept_the_score_is_named_with_what_that_rests_on() -> None:
    found = answer(
        quant("Q8_0", 1_900_000, [100] * 5),
        quant("Q4_K_M", 980_000, [100] * 5),
        quant("Q3_K_S", 800_000, [28, 60, 28, 60, 28]),
        quant("Q2_K", 700_000, [0] * 5),
    )
    assert found.smallest == "Q4_K_M"
    assert not found.sure
    assert found.sentence == (
        "m on todo: Q4_K_M (980 kB) is the smallest quant that kept the score: mean 100.0 of 100, as high as Q8_0, "
        "the best larger one, over 5 seeds. That is what 5 seeds saw, not proof: replies that they did not show leave "
        "room for a true mean up to 45.1 points lower (95%); if they go on like this, about 54 more would show it to "
        "within 5.0 points. It saves 920 kB of file against Q8_0. The next smaller, Q3_K_S (800 kB), scored 59.2 "
        "points lower, which 5 seeds do not settle at 95%; if the difference stays, about 2 more would."
    )
    assert found.saves is not None
    assert found.saves.file_bytes == 920_000


def test_enough_seeds_make_it_sure() -> None:
    found = answer(quant("Q8_0", 2_000, [100] * 59), quant("Q4_K_M", 1_000, [100] * 59))
    assert (found.smallest, found.sure) == ("Q4_K_M", True)
    assert found.comparisons[0].verdict == "equivalent"
    assert "They are equivalent: to within 5.0 points, 59 seeds are enough to say so at 95%" in found.sentence
    assert "No smaller one has scores." in found.sentence


def test_58_seeds_are_one_too_few() -> None:
    found = answer(quant("Q8_0", 2_000, [100] * 58), quant("Q4_K_M", 1_000, [100] * 58))
    assert not found.sure
    assert (found.comparisons[0].verdict, found.comparisons[0].more_seeds) == ("undecided", 1)


def test_a_fall_that_seeds_cannot_tell_from_chance_is_undecided_with_a_number() -> None:
    found = answer(quant("Q8_0", 2_000, [100] * 5), quant("Q4_K_M", 1_000, [100, 100, 100, 100, 28]))
    assert found.smallest == "Q8_0"
    assert not found.sure
    assert "only the largest, Q8_0 (2.0 kB), has its score" in found.sentence
    assert (
        "scored 14.4 points lower, which 5 seeds do not settle at 95%; if the difference stays, about 23 more would."
        in found.sentence
    )


def test_seeds_that_disagree_leave_room() -> None:
    found = answer(
        quant("Q8_0", 2_000, [14, 14, 10, 14, 14], full=15), quant("Q4_K_M", 1_000, [14, 13, 14, 14, 13], full=15)
    )
    assert found.smallest == "Q4_K_M"
    assert "0.4 points above Q8_0" in found.sentence
    assert "leave room for a true mean up to 6.6 points lower (95%)" in found.sentence


def test_only_the_largest_is_good_and_the_seeds_show_it() -> None:
    found = answer(quant("F16", 3_000, [100] * 5), quant("Q2_K", 1_000, [0] * 5))
    assert (found.smallest, found.sure, found.comparisons[0].verdict) == ("F16", True, "worse")


def test_a_smaller_quant_is_held_against_the_best_larger_one_not_the_largest() -> None:
    """More bits do not always help (the Go exams' Qwen3.5: Q5_K_M 12.0, Q4_K_M 14.0)."""
    found = answer(
        quant("Q6_K", 32_000, [14, 14, 15], full=15),
        quant("Q5_K_M", 28_000, [9, 13, 14], full=15),
        quant("Q4_K_M", 21_000, [14, 14, 14], full=15),
    )
    assert [comparison.reference for comparison in found.comparisons] == ["Q6_K", "Q6_K"]
    assert found.smallest == "Q4_K_M"
    assert "0.3 points below Q6_K" in found.sentence


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_seeds_name_nothing(seeds: int) -> None:
    found = answer(quant("Q8_0", 2_000, [100] * seeds), quant("Q4_K_M", 1_000, [100] * seeds))
    assert found.smallest is None
    assert "one unlucky draw would turn the answer. Run at least 3, better 5." in found.sentence


def test_a_quant_with_too_few_seeds_does_not_spoil_the_rest() -> None:
    found = answer(quant("Q8_0", 3_000, [100] * 5), quant("Q5", 2_000, [100] * 5), quant("Q4", 1_000, [100]))
    assert found.smallest == "Q5"
    assert "The next smaller, Q4 (1.0 kB), has too few seeds to compare by (1)." in found.sentence


TWO = ("plain", "loud")


def test_answers_to_several_tasks_are_held_against_those_to_the_same_task() -> None:
    """With the seed alone as the pair, each task's score was held against the last task's of that seed."""
    larger = quant("Q8_0", 2_000, [100, 0] * 5, tasks=TWO)
    found = answer(larger, quant("Q4_K_M", 1_000, [100, 0] * 5, tasks=TWO))
    (comparison,) = found.comparisons
    assert (comparison.pairs, comparison.tasks, comparison.seeds, comparison.difference) == (10, 2, 5, 0.0)
    assert found.smallest == "Q4_K_M"
    assert "as high as Q8_0, the best larger one, over 10 answers (2 tasks, 5 seeds)." in found.sentence
    # 59 answers would show it: 49 more, of which a seed gives two.
    assert "; if they go on like this, about 25 more seeds would show it to within 5.0 points." in found.sentence
    assert compare(quant("Q4_K_M", 1_000, [0, 100] * 5, tasks=TWO), larger).difference == 0.0
    only = compare(quant("Q4_K_M", 1_000, [40] * 5, tasks=("loud",)), larger)
    assert (only.pairs, only.difference) == (5, 40.0)


def test_a_seed_of_several_tasks_is_several_answers() -> None:
    found = answer(quant("Q8_0", 2_000, [100, 100], tasks=TWO), quant("Q4", 1_000, [100, 100], tasks=TWO))
    assert "with 2 answers (2 tasks, 1 seed) to compare by, one unlucky draw" in found.sentence
    assert "Run at least 2 seeds, better 3." in found.sentence


def test_a_run_of_several_tasks_is_paired_by_task(run_of: Callable[..., Path], row: MakeRow) -> None:
    folder = run_of({})
    with RunStore(folder) as store:
        for name, file_bytes in (("Q8_0", 2_000), ("Q4", 1_000)):
            for task, seed in product(TWO, range(1, 4)):
                score = 100.0 if task == "plain" else 20.0
                names = {"job_id": f"{name}-{task}-{seed}", "quant": name, "task": task, "seed": seed}
                assert store.commit(row(**names, file_bytes=file_bytes, score=score))
    (found,) = answers(summarise(read_run(folder).table))
    assert [(each.pairs, each.difference) for each in found.comparisons] == [(6, 0.0)]


def test_where_nothing_scored_there_is_nothing_to_keep() -> None:
    found = answer(quant("Q8_0", 2_000, [0, 4, 0]), quant("Q4_K_M", 1_000, [0, 0, 0]))
    assert found.smallest is None
    assert "no quant scored above 1.3 of 100: there is no score to keep" in found.sentence


@pytest.mark.parametrize(
    ("summaries", "words"),
    [
        ([quant("Q8_0", 2_000, [])], "no quant has a score yet"),
        ([quant("Q8_0", 2_000, [100, 100, 100])], "only Q8_0 has scores"),
    ],
)
def test_without_a_comparison_it_says_so(summaries: list[QuantSummary], words: str) -> None:
    assert words in answer(*summaries).sentence


def test_a_model_of_an_endpoint_has_no_quants_to_choose_from() -> None:
    assert answers([quant("none", None, [100, 100, 100])]) == ()


def test_that_all_fail_alike_needs_no_more_seeds() -> None:
    found = answer(quant("Q8_0", 2_000, [0] * 5), quant("Q4", 1_000, [0] * 5))
    assert found.comparisons == ()
    assert "there is no score to keep" in found.sentence


def test_equal_falls_on_every_seed_need_a_few_seeds_too() -> None:
    def fall(points: float, seeds: int) -> str:
        return compare(quant("Q4", 1_000, [100 - points] * seeds), quant("Q8_0", 2_000, [100] * seeds)).verdict

    assert fall(100, 4) == "undecided"  # one pair in six that goes the other way may have gone unseen
    assert fall(100, 5) == "worse"
    assert fall(40, 8) == "undecided"
    assert fall(40, 9) == "worse"
    assert fall(5, 40) == "undecided"  # as far down as is allowed
    assert fall(2, 120) == "equivalent"  # surely lower, and too little to matter


def test_quants_are_tested_from_the_smallest_up() -> None:
    """Four that fail all of five seeds are told, as one is; one that fails while smaller ones do not needs more."""
    larger = quant("Q8_0", 9_000, [100] * 5)
    assert compare(quant("Q2", 1_000, [0] * 5), larger).verdict == "worse"
    four = answer(larger, *(quant(f"Q{place}", place, [0] * 5) for place in (5, 4, 3, 2))).comparisons
    assert [each.name for each in four] == ["Q5", "Q4", "Q3", "Q2"]
    assert [each.verdict for each in four] == ["worse"] * 4
    damaged = answer(larger, *(quant(f"Q{place}", place, [0 if place == 4 else 100] * 5) for place in (5, 4, 3, 2)))
    found = {each.name: each for each in damaged.comparisons}["Q4"]
    assert (found.verdict, found.more_seeds) == ("undecided", 3)


def test_a_quant_with_too_few_seeds_keeps_nobody_from_being_told() -> None:
    larger = quant("Q8_0", 9_000, [100] * 5)
    found = answer(larger, quant("Q3", 3, [0] * 5), quant("Q2", 2, [0] * 2)).comparisons
    assert [(each.verdict, each.p_adjusted) for each in found] == [("worse", found[0].p_value), ("undecided", 1.0)]


def test_pass_and_fail_brings_mcnemars_test_along() -> None:
    found = compare(quant("Q4", 1_000, [0, 0, 0, 100, 100, 0]), quant("Q8_0", 2_000, [100, 100, 100, 100, 100, 0]))
    assert found.mcnemar == 0.25  # three that differ, all one way
    assert compare(quant("Q4", 1_000, [60, 0]), quant("Q8_0", 2_000, [100, 100])).mcnemar is None


def test_every_model_variant_and_exam_has_its_own_line(run_of: Callable[..., Path]) -> None:
    for model in ("a", "b"):
        for variant in ("default", "nothink"):
            run_of({"Q8_0": (2_000, [100.0] * 3), "Q4": (1_000, [100.0] * 3)}, model=model, variant=variant)
    folder = run_of({"Q8_0": (2_000, [0.0] * 3)}, model="c")
    lines = [answer.sentence for answer in answers(summarise(read_run(folder).table))]
    assert [line.split(":")[0] for line in lines] == [
        "a on todo",
        "a (nothink) on todo",
        "b on todo",
        "b (nothink) on todo",
        "c on todo",
    ]


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 28.0, 43.8, 60.0, 95.0, 100.0]), min_size=0, max_size=8), min_size=1, max_size=5
    )
)
def test_whatever_the_scores_the_answer_is_true(columns: list[list[float]]) -> None:
    quants = [quant(f"Q{place}", 10_000 - place, scores) for place, scores in enumerate(columns)]
    found = answer(*quants)
    assert found.sentence.startswith("m on todo: ")
    assert "nan" not in found.sentence
    by_name = {one.quant: one for one in quants}
    for comparison in found.comparisons:
        ours, theirs = by_name[comparison.name], by_name[comparison.reference]
        assert (theirs.file_bytes or 0) > (ours.file_bytes or 0)
        if comparison.verdict == "undecided":
            assert comparison.more_seeds is None or comparison.more_seeds > 0
        else:
            assert comparison.more_seeds is None
            assert comparison.pairs >= 4
        # So few seeds never prove that two are worth the same.
        assert comparison.verdict != "equivalent"
        assert comparison.verdict != "worse" or not comparison.kept
    if found.smallest is not None:
        assert by_name[found.smallest].scores
        smaller = [
            c
            for c in found.comparisons
            if (by_name[c.name].file_bytes or 0) < (by_name[found.smallest].file_bytes or 0)
        ]
        assert not any(comparison.kept for comparison in smaller)
