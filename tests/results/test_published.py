"""Published figures: all of them are there, what a rule says of them, and the Parquet file is what the sources say."""

from __future__ import annotations

import json
from typing import Any

import pyarrow.parquet as pq
import pytest

from profiles.catalogue import find_card
from quants.catalogue import find_model
from results.published import REPORTS
from results.published.printed import Figure, PrintedError, number, read_cell
from results.published.rules import (
    above_bus,
    above_maximum,
    at_token_cap,
    disagreements,
    judge_claim,
    name_against_id,
    outside_range,
    rate_against_time,
    unreachable_mean,
)
from results.published.source import Line, Source, SourceError, read_source, to_source
from results.published.table import COLUMNS, PARQUET, rows_of, to_table

FIGURES = {
    # Counted in the reports by hand, cell by cell: figures, and marks that say yes or no.
    "go-exams": {
        "v1": 11 * 3,
        "v1-dropped": 5 * 2,
        "v2": 11 * 3,
        "quants-gemma-v1": 3 * 2,
        "quants-gemma-v2": 3 * 2,
        "quants-qwen-v1": 4 * 2,
        "quants-qwen-v2": 4 * 2,
        "makers": 7,
    },
    "todo-cli": {"performance": 6 * 4, "quality": 6 * 4, "throughput": 6},
    "turtle-cat": {"text": 0},
    "canvas-physics": {"text": 0},
    "tag-manager": {"setup": 5 * 4 + 1, "outcomes": 6 * 5, "tokens": 6, "summary": 5 + 7 * 6},
}


def line(label: str = "a model", **values: Any) -> Line:
    said = {
        name: number(value) if isinstance(value, str) and value[:1].isdigit() else value
        for name, value in values.items()
    }
    return Line("a report", "a table", (1,), label, frozenset(said), {"model": label} | said)


def flagged(report: str) -> dict[tuple[str, str | None], set[str]]:
    """Names of flags by table and model."""
    found: dict[tuple[str, str | None], set[str]] = {}
    for row in rows_of(report):
        names = {flag["name"] for flag in json.loads(row["flags"])}
        found.setdefault((row["table"], row["model"]), set()).update(names)
    return found


@pytest.mark.parametrize("report", REPORTS)
def test_every_figure_of_every_table_is_there(report: str) -> None:
    found: dict[str, int] = {}
    for each in read_source(report).lines:
        found[each.table] = found.get(each.table, 0) + each.cells
    assert found == FIGURES[report]


def test_the_parquet_file_is_what_the_sources_say() -> None:
    assert pq.read_table(PARQUET).equals(to_table()), "make published"
    for column in COLUMNS:
        if not column.nullable:
            assert all(row[column.name] for report in REPORTS for row in rows_of(report)), column.name


def test_figures_are_read_as_they_are_printed() -> None:
    rows = {(row["table"], row["model"], row["quant"]): row for row in rows_of("go-exams")}
    best = rows["v1", "Qwen3.5-35B", "Q6_K"]
    assert (best["score"], best["score_low"], best["score_high"], best["decode_tps"]) == (14.3, 14.0, 15.0, 22.1)
    assert (best["score_max"], best["exam"], best["catalogue"]) == (15.0, "go-v1", "qwen3.5-35b-a3b")
    assert (best["context"], best["temperature"], best["engine_build"]) == (16384, 1.0, "b8708")
    assert json.loads(best["seeds"]) == [42, 123, 456]
    gemma = rows["quants-gemma-v2", "Gemma 4 26B", "UD-Q4_K_M"]
    assert (gemma["score"], gemma["compiles"], gemma["compiles_of"]) == (4.0, 2, 3)
    maker = rows["makers", "Qwen3.5-35B", None]
    assert (maker["origin"], maker["engine_build"], maker["hardware"]) == ("self-reported", None, None)
    agents = {row["model"]: row for row in rows_of("tag-manager") if row["table"] == "summary"}
    assert (agents["Gemma 4 12B"]["nudges"], agents["Gemma 4 12B"]["stopped"]) == (2, True)
    assert (agents["Qwen 3.6 35B-A3B"]["builds"], agents["Qwen 3.6 35B-A3B"]["build_passed"]) == (2, True)
    assert (agents["Hermes 4 14B"]["builds"], agents["Hermes 4 14B"]["build_passed"]) == (13, False)
    assert agents["Sonnet 4"]["cache_type_k"] is None, "nobody knows how a cloud serves"
    assert agents["Qwen3-Coder 30B-A3B"]["parameters_active"] == 3_000_000_000


def test_names_and_bandwidths_are_those_of_our_catalogues() -> None:
    for report in REPORTS:
        for each in read_source(report).lines:
            if (name := each.text("name")) is not None:
                model = find_model(name)
                assert model is not None
                assert model.name == name
                assert any(text.startswith(f"{report}:") for text in model.reports) or "DeepSeek-R1" in each.label
            if (bandwidth := each.figure("bandwidth_gb_s")) is not None:
                card = find_card(each.text("card") or "")
                assert card.bandwidth_bytes_per_s == bandwidth.value * 1e9


def test_what_is_known_to_be_wrong_is_flagged() -> None:
    todo = flagged("todo-cli")
    assert todo["performance", "Qwen 3.5B"] >= {"above_bus", "at_token_cap", "load_in_ttft", "hidden_reasoning"}
    assert "above_bus" in todo["throughput", "Qwen 3.5B"]
    assert todo["performance", "Devstral"] == set(), "nothing is wrong with it"
    assert todo["quality", "Sonnet 4.6"] == {"name_against_id"}
    assert todo["claims", "DeepSeek R1"] == {"not_the_most"}
    go = flagged("go-exams")
    assert all("harness" in names for (table, _), names in go.items() if table in {"v1", "v2"})
    assert {"above_bus", "wrong_architecture"} <= go["v2", "gpt-oss-20b"]
    assert go["makers", "Qwen3.5-35B"] == set()
    tag = [json.loads(row["flags"])[0]["name"] for row in rows_of("tag-manager") if row["table"] == "claims"]
    assert tag == ["wrong_count", "wrong_share", "wrong_ratio"]


def test_a_rate_above_the_bus() -> None:
    moe = {"bandwidth_gb_s": "1792", "file_bytes": "23 GB", "parameters": "35B", "parameters_active": "3B"}
    found = above_bus(line(decode_tps="1,510.2", output_tokens="4,096", e2e_s="30.91s", **moe))
    assert found is not None
    assert found.columns == ("decode_tps",)
    assert "909.0" in found.reason
    assert "132.5" in found.reason
    assert above_bus(line(decode_tps="909.0", **moe)) is None
    dense = line(decode_tps="27.0", bandwidth_gb_s="128", file_bytes="12 GB", architecture="dense")
    found = above_bus(dense)
    assert found is not None
    assert found.columns == ("architecture", "decode_tps")
    assert above_bus(line(decode_tps="27.0", bandwidth_gb_s="128", file_bytes="12 GB")) is None, "nothing is known"


def test_a_score_above_the_maximum_and_a_mean_outside_its_range() -> None:
    assert above_maximum(line(score="15.5", score_max="15"))
    assert above_maximum(line(features="11", features_max="10"))
    assert above_maximum(line(score="15", score_max="15")) is None
    assert outside_range(line(score="14.3", score_low="9", score_high="14"))
    assert outside_range(line(score="12", score_low="14", score_high="9"))
    assert outside_range(line(score="14.0", score_low="14", score_high="14")) is None


@pytest.mark.parametrize(
    ("mean", "low", "high", "possible"),
    [
        ("14.3", "14", "15", True),
        ("14.5", "14", "15", False),
        ("12.7", "10", "14", True),
        ("13.0", "10", "14", False),  # 10, 14 and 15
        ("12.0", "9", "14", True),
        ("11.9", "9", "14", False),
        ("5.0", "5", "5", True),
    ],
)
def test_a_mean_that_no_three_scores_have(mean: str, low: str, high: str, possible: bool) -> None:
    seen = line(score=mean, score_low=low, score_high=high, score_step="1", seeds=[42, 123, 456])
    assert (unreachable_mean(seen) is None) == possible


def test_a_mean_that_so_few_compiled_seeds_cannot_have() -> None:
    v2: dict[str, Any] = {"score_max": "10", "score_step": "1", "seeds": [1, 2, 3], "compiled_from": 1}
    assert unreachable_mean(line(score="3.3", compiles="1", **v2)) is None
    assert unreachable_mean(line(score="3.7", compiles="1", **v2)), "11 points of one seed of 10"
    assert unreachable_mean(line(score="0.3", compiles="2", **v2)), "each of two has one at least"


def test_a_rate_that_tokens_over_time_contradict() -> None:
    reply = {"output_tokens": "1,461", "e2e_s": "14.89s", "ttft_s": "0.87s"}
    assert rate_against_time(line(decode_tps="104.2", **reply)) is None
    assert rate_against_time(line(decode_tps="98.1", **reply)) is None, "over all of the time"
    assert rate_against_time(line(decode_tps="110.0", **reply))
    assert rate_against_time(line(decode_tps="90.0", **reply))


def test_a_reply_at_the_cap_and_a_name_that_is_another_models() -> None:
    assert at_token_cap(line(output_tokens="4,096", max_tokens="4096"))
    assert at_token_cap(line(output_tokens="4,095", max_tokens="4096")) is None
    assert name_against_id(line("Opus 4.6", id="claude-opus-4-20250514"))
    assert name_against_id(line("Qwen 3.5B", id="qwen3.5:35b-a3b"))
    assert name_against_id(line("Codestral 22B", id="codestral:22b")) is None
    assert name_against_id(line("Sonnet 4", id="claude-sonnet-4-20250514")) is None
    assert name_against_id(line("Qwen 3.5 35B", id="qwen3.5:35b-a3b")) is None


def test_figures_that_are_printed_twice() -> None:
    rounded = [line(total_tokens="2.06M"), line(total_tokens="2,059,519")]
    assert not list(disagreements(rounded))
    ((_, flag),) = disagreements([*rounded, line(total_tokens="2.07M"), line("another", total_tokens="5")])
    assert flag.columns == ("total_tokens",)


def test_claims_are_held_against_the_figures() -> None:
    lines = (line("A", tokens="1,000", kind="local"), line("B", tokens="50,000", kind="cloud"))
    source = Source("a report", "", lines, (), ())
    both: dict[str, Any] = {"of": "things", "tables": ["a table"], "table": "a table", "column": "tokens"}

    def wrong(**claim: Any) -> bool:
        return judge_claim(source, both | claim) is not None

    assert not wrong(kind="count", says=2)
    assert wrong(kind="count", says=2, where="local")
    assert wrong(kind="most", label="A")
    assert not wrong(kind="most", label="B")
    assert wrong(kind="share", label="A", part=400, over=0.5)
    assert not wrong(kind="share", label="A", part=600, over=0.5)
    assert not wrong(kind="ratio", says=[50, 50], label="A", labels=["B"])
    assert wrong(kind="ratio", says=[100, 200], label="A", labels=["B"])


def test_cells_that_do_not_read_are_refused() -> None:
    assert read_cell("file_bytes", "6.9GB") == {"file_bytes": Figure(6.9e9, 0.05e9)}
    assert read_cell("max_tokens", "—") == {}
    for column, text in (("file_bytes", "large"), ("compiles", "two"), ("build", "maybe"), ("score", "9 furlongs")):
        with pytest.raises(PrintedError):
            read_cell(column, text)
    table = {"name": "t", "columns": ["label", "score"], "lines": "7 | A | 1 | 2"}
    with pytest.raises(SourceError, match="table t"):
        to_source("go-exams", {"report": {"title": ""}, "models": {"A": {}}, "table": [table]})
    with pytest.raises(SourceError, match="'A'"):
        to_source("go-exams", {"report": {"title": ""}, "models": {}, "table": [table | {"lines": "7 | A | 1"}]})
