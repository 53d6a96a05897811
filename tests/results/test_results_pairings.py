from __future__ import annotations

import json
from typing import TYPE_CHECKING

from results.pairings import ALL_QUANTS, Pairing
from results.tables import report
from tests.results.test_results_tables import show

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GOOD, BAD = [100.0] * 9, [0.0] * 9


def pairing_of(folder: Path, of: str) -> Pairing:
    (found,) = [pairing for pairing in report(folder).pairings if pairing.of == of]
    return found


def test_variants_get_a_verdict_quant_by_quant_and_over_all(run_of: Callable[..., Path]) -> None:
    """The KV cache in f16 against q8_0: the first variant of the spec is what the others are held against."""
    quants = {"Q8_0": (2_000, GOOD), "Q4": (1_000, GOOD)}
    run_of(quants, variant="f16-kv", peak_ram_bytes=900_000_000)
    folder = run_of({"Q8_0": (2_000, BAD), "Q4": (1_000, GOOD)}, variant="q4-kv", peak_ram_bytes=500_000_000)
    found = pairing_of(folder, "variants")
    assert (found.model, found.reference) == ("standin", "f16-kv")
    assert list(zip(found.quants, [each.verdict for each in found.comparisons], strict=True)) == [
        (ALL_QUANTS, "worse"),
        ("Q8_0", "worse"),
        ("Q4", "undecided"),
    ]
    overall = found.comparisons[0]
    assert (overall.pairs, overall.tasks, overall.seeds, overall.difference) == (18, 2, 9, -50.0)
    assert [saving and saving.ram_bytes for saving in found.savings] == [None, 400_000_000, 400_000_000]
    lines = [" ".join(line.split()) for line in show(folder, width=120, colour=False).splitlines()]
    assert "Variants against standin (f16-kv) on todo (/100)" in lines
    assert any(line.startswith("q4-kv, Q8_0 -100.0 -100.0 to -") and "9 worse 400 MB" in line for line in lines)
    assert json.loads(show(folder, as_json=True))["pairings"][0]["comparisons"][1]["verdict"] == "worse"


def test_the_first_variant_is_the_one_that_the_spec_names_first(run_of: Callable[..., Path]) -> None:
    run_of({"Q4": (1_000, GOOD)}, variant="first-to-run")
    folder = run_of({"Q4": (1_000, BAD)}, variant="first-in-spec")
    order = [("standin", "first-in-spec"), ("standin", "first-to-run")]
    (found,) = report(folder, order=order).pairings
    assert (found.reference, found.comparisons[0].verdict) == ("first-in-spec", "better")


def test_models_are_held_against_the_best_each_by_the_quant_that_its_answer_names(run_of: Callable[..., Path]) -> None:
    run_of({"Q8_0": (2_000, GOOD), "Q4": (1_000, GOOD)}, model="strong")
    run_of({"Q8_0": (2_000, [60.0] * 9)}, model="middling")
    folder = run_of({"Q8_0": (2_000, BAD), "Q4": (1_000, BAD)}, model="weak")
    found = pairing_of(folder, "models")
    assert found.reference == "strong Q4"
    assert [(each.name, each.difference) for each in found.comparisons] == [
        ("middling Q8_0", -40.0),
        ("weak Q8_0", -100.0),
    ]
    assert [each.verdict for each in found.comparisons] == ["worse", "worse"]
    assert [each.p_adjusted > each.p_value for each in found.comparisons if each.p_value and each.p_adjusted] == [
        False,
        True,
    ]


def test_cells_without_seeds_in_common_are_not_compared(run_of: Callable[..., Path]) -> None:
    run_of({"Q4": (1_000, [100.0, 100.0])}, model="a")
    folder = run_of({"Q4": (1_000, [None, None, 100.0])}, model="b")
    (comparison,) = pairing_of(folder, "models").comparisons
    assert (comparison.pairs, comparison.verdict, comparison.difference) == (0, "undecided", None)
    assert "Models against" not in show(folder, width=100, colour=False)


def test_of_very_many_models_a_table_has_a_page_and_says_so(run_of: Callable[..., Path]) -> None:
    for number in range(25):
        folder = run_of({"Q4": (1_000, [100.0, 90.0, float(number)])}, model=f"m{number:02d}")
    text = show(folder, width=100, colour=False)
    assert "4 more comparisons: `quantsweep show --json`." in text
    assert max(map(len, text.splitlines())) <= 100
    assert len(pairing_of(folder, "models").comparisons) == 24
