from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from rich.cells import cell_len

from orchestrator.terminal import Json, Printer
from results import figures
from results.columnar import as_table
from results.reading import StoreError, read_run
from results.rows import complete_row
from results.sides import side_of_run
from results.store import RunStore
from results.summary import QuantSummary, summarise
from results.tables import Report, report, report_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from .conftest import MakeRow

QUANTS: dict[str, tuple[int | None, list[float | None]]] = {
    "Q8_0": (1_900_000, [100, 100, 100, 100, 100]),
    "Q4_K_M": (980_000, [100, 100, 60, 100, None]),
    "Q2_K": (700_000, [0, 28, 0, 0, 0]),
}


def printed(found: Report, *, as_json: bool = False, width: int | None = None, colour: bool | None = None) -> str:
    parts = [Json(found.to_json())] if as_json else found.parts()
    return Printer(None).text_of(*parts, width=width, colour=colour)


def show(run_folder: Path, **how: Any) -> str:
    return printed(report(run_folder), **how)


def render(table: Any, **how: Any) -> str:
    return printed(report_of(table), **how)


def summary_of(folder: Path, quant: str) -> QuantSummary:
    (found,) = [summary for summary in summarise(read_run(folder).table) if summary.quant == quant]
    return found


class TestSummary:
    def test_grades_of_other_full_marks_are_brought_to_one_scale(self, tmp_path: Path, row: MakeRow) -> None:
        store = RunStore(tmp_path)
        for seed, score_max, version in ((1, 6.0, "1"), (2, 6.0, "1"), (3, 8.0, "2")):
            fields = {"score": score_max, "score_max": score_max, "grader_version": version}
            assert store.commit(row(job_id=f"j{seed}", seed=seed, **fields))
        (found,) = summarise(store.table())
        assert (found.score_max, found.mean, found.low, found.full_marks) == (8.0, 8.0, 8.0, 3)
        assert "`quantsweep regrade RUN` grades all answers by one grader" in " ".join(report_of(store.table()).remarks)

    def test_means_are_given_with_and_without_infrastructure_failures(self, run_of: Callable[..., Path]) -> None:
        found = summary_of(run_of(QUANTS), "Q4_K_M")
        assert (found.jobs, found.infrastructure, found.coverage) == (5, 1, 0.8)
        assert (found.mean, found.strict_mean) == (90.0, 72.0)
        assert (found.low, found.high, found.full_marks) == (60.0, 100.0, 3)
        assert [score[1:] for score in found.scores] == [(1, 100.0), (2, 100.0), (3, 60.0), (4, 100.0)]
        assert found.outcomes == {"passed": 3, "wrong": 1, "server_crash": 1}
        assert found.interval is not None
        assert 90 < found.interval.high < 100  # Student would go beyond full marks
        assert 40 < found.interval.low < 60
        assert found.full_marks_interval is not None
        assert found.full_marks_interval.low < 0.75 < found.full_marks_interval.high

    def test_equal_scores_have_an_interval_that_says_how_little_they_show(self, run_of: Callable[..., Path]) -> None:
        found = summary_of(run_of(QUANTS), "Q8_0")
        assert (found.sd, found.mean) == (0.0, 100.0)
        assert found.interval is not None
        assert 59 < found.interval.low < 61  # with Jeffreys 62, 5 of 5
        assert found.interval.high == 100.0

    def test_two_scores_get_no_interval(self, run_of: Callable[..., Path]) -> None:
        assert summary_of(run_of({"Q4": (1_000, [100.0, 60.0])}), "Q4").interval is None

    def test_programs_that_build_are_those_that_get_a_point_and_were_not_cut_off(
        self, tmp_path: Path, row: MakeRow
    ) -> None:
        ends = (
            ("passed", "model", 100.0),
            ("wrong", "model", 60.0),
            ("runtime_error", "model", 0.0),  # builds and passes nothing
            ("compile_error", "model", 28.0),  # points for what the text holds
            ("no_code", "model", 0.0),
            ("max_tokens", "budget", 28.0),
        )
        with RunStore(tmp_path) as store:
            for seed, (outcome, whose, score) in enumerate(ends, 1):
                store.commit(row(job_id=f"j{seed}", seed=seed, outcome=outcome, outcome_class=whose, score=score))
        (found,) = summarise(read_run(tmp_path).table)
        assert (found.built, len(found.scores)) == (2, 6)
        assert found.built_interval is not None
        assert "2/6" in show(tmp_path, width=120, colour=False)

    def test_pass_at_k_is_averaged_over_tasks(self, tmp_path: Path, row: MakeRow) -> None:
        with RunStore(tmp_path) as store:
            for task, passed in (("a", 1), ("b", 4)):
                for seed in range(1, 5):
                    score = 100.0 if seed <= passed else 20.0
                    store.commit(row(job_id=f"{task}{seed}", task=task, seed=seed, score=score))
        (found,) = summarise(read_run(tmp_path).table)
        assert found.pass_at == {1: (0.25 + 1) / 2, 3: pytest.approx((0.75 + 1) / 2)}
        assert found.tasks_interval is None  # two tasks say nothing of others

    def test_from_five_tasks_on_there_is_an_interval_for_tasks_like_these(self, tmp_path: Path, row: MakeRow) -> None:
        with RunStore(tmp_path) as store:
            for number in range(5):
                for seed in range(1, 9):
                    score = 100.0 if number < 3 else 0.0
                    store.commit(row(job_id=f"{number}-{seed}", task=f"t{number}", seed=seed, score=score))
        (found,) = summarise(read_run(tmp_path).table)
        assert found.interval is not None
        assert found.tasks_interval is not None
        widths = [each.high - each.low for each in (found.interval, found.tasks_interval)]
        assert widths[1] > 2 * widths[0]  # 5 tasks, however many seeds each has

    def test_retries_are_counted_and_not_averaged(
        self, tmp_path: Path, row: MakeRow, infrastructure_row: MakeRow
    ) -> None:
        store = RunStore(tmp_path)
        store.commit(infrastructure_row(final=False))
        store.commit(row(attempt=2, score=60.0))
        store.commit(infrastructure_row(job_id="open", final=False))
        (found,) = summarise(store.table())
        assert (found.jobs, found.open_jobs, found.retried, found.mean) == (1, 1, 2, 60.0)

    def test_a_regrade_is_no_retry_and_counts_with_its_own_grade_and_version(
        self, tmp_path: Path, row: MakeRow, infrastructure_row: MakeRow
    ) -> None:
        store = RunStore(tmp_path)
        store.commit_many([infrastructure_row(final=False), row(attempt=2, score=60.0)])
        store.commit(row(attempt=3, regrade_of=2, score=40.0, score_max=50.0, grader_version="2"))
        (found,) = summarise(store.table())
        assert (found.jobs, found.open_jobs, found.retried, found.regraded, found.mean) == (1, 0, 1, 1, 40.0)
        assert (found.grader_versions, found.score_max) == (("2",), 50.0)
        remarks = " ".join(report_of(store.table()).remarks)
        assert "1 answer graded again; the earlier grades are on record" in remarks
        assert "More than one version" not in remarks

    def test_what_was_taken_out_of_the_sweep_is_in_no_table_and_is_said(self, tmp_path: Path, row: MakeRow) -> None:
        store = RunStore(tmp_path)
        store.commit_many([row(), row(job_id="out", quant="Q8_0", seed=2)])
        store.count_only(["j1-0123abcd"])
        found = report_of(store.table())
        assert [(summary.quant, summary.jobs, summary.open_jobs) for summary in found.summaries] == [("Q4_K_M", 1, 0)]
        assert "1 job taken out of the sweep: on record, not in the figures." in found.remarks

    def test_two_finals_of_one_job_count_once_and_the_scored_one_stands(
        self, row: MakeRow, infrastructure_row: MakeRow
    ) -> None:
        """Two writers at once, which locks prevent where there are any, could leave this behind."""
        rows = [complete_row(infrastructure_row(attempt=1)), complete_row(row(attempt=2, score=60.0))]
        (found,) = summarise(as_table(rows))
        assert (found.jobs, found.infrastructure, found.mean) == (1, 0, 60.0)

    def test_timings_are_of_warm_undisturbed_requests_where_there_are_any(self, tmp_path: Path, row: MakeRow) -> None:
        store = RunStore(tmp_path)
        store.commit(row(job_id="a", cold=True, ttft_any_s=9.0, decode_tps=1.0, decode_tps_client=1.0))
        store.commit(row(job_id="b", shared_with='["grading"]', ttft_any_s=8.0, decode_tps=2.0))
        store.commit(row(job_id="c", cached_tokens=50, ttft_any_s=0.001))
        store.commit(row(job_id="d", ttft_any_s=0.5, decode_tps=100.0, decode_tps_client=101.0))
        store.commit(row(job_id="e", ttft_any_s=0.7, decode_tps=110.0, decode_tps_client=109.0))
        (found,) = summarise(store.table())
        timings = found.timings
        assert (timings.requests, timings.clean, timings.ttft_any_s, timings.decode_tps) == (2, True, 0.6, 105.0)
        assert (timings.timed, timings.marked_for) == (5, ())

    def test_other_timings_are_used_and_marked_where_there_are_no_clean_ones(
        self, tmp_path: Path, row: MakeRow
    ) -> None:
        store = RunStore(tmp_path)
        store.commit(row(cold=True, decode_tps=50.0, decode_tps_client=50.0))
        (found,) = summarise(store.table())
        assert (found.timings.clean, found.timings.decode_tps) == (False, 50.0)
        assert "50.0*" in render(store.table())

    def test_timings_of_a_busy_machine_are_left_out_where_there_are_others(self, tmp_path: Path, row: MakeRow) -> None:
        store = RunStore(tmp_path)
        for seed, (share, rate) in enumerate([(0.02, 100.0), (None, 104.0), (0.15, 90.0), (0.62, 20.0)], 1):
            store.commit(
                row(job_id=f"j{seed}", seed=seed, foreign_cpu_share=share, decode_tps=rate, decode_tps_client=rate)
            )
        (found,) = summarise(store.table())
        timings = found.timings
        assert (timings.requests, timings.clean, timings.decode_tps, timings.decode_tps_low) == (3, True, 100.0, 90.0)
        assert (timings.busy, timings.busiest) == (1, 0.62)
        text = " ".join(show(tmp_path, width=100, colour=False).split())
        assert "100.0 3/4 90.0-104.0" in text
        assert "1 request ran while other work took up to 62% of the machine's CPU time: their timings are left" in text

    def test_a_request_too_short_to_tell_is_kept_and_not_counted_as_disturbed(
        self, tmp_path: Path, row: MakeRow
    ) -> None:
        store = RunStore(tmp_path)
        for seed, (share, rate) in enumerate([(0.7, 40.0), (None, 100.0), (0.6, 50.0)], 1):
            store.commit(
                row(job_id=f"j{seed}", seed=seed, foreign_cpu_share=share, decode_tps=rate, decode_tps_client=rate)
            )
        (found,) = summarise(store.table())
        timings = found.timings
        assert (timings.clean, timings.busy, timings.requests, timings.decode_tps) == (True, 2, 1, 100.0)
        assert "2 requests ran while other work took up to 70% of the machine's" in " ".join(show(tmp_path).split())

    def test_timings_of_a_machine_that_was_always_busy_are_marked(self, tmp_path: Path, row: MakeRow) -> None:
        store = RunStore(tmp_path)
        store.commit(row(job_id="a", quant="Q8_0", foreign_cpu_share=0.4, decode_tps=50.0, decode_tps_client=50.0))
        store.commit(row(job_id="b", quant="Q4_0", foreign_cpu_share=0.0, decode_tps=70.0, decode_tps_client=70.0))
        text = " ".join(show(tmp_path, width=100, colour=False).split())
        assert "50.0*" in text
        assert "70.0*" not in text
        assert "up to 40% of the machine's CPU time: their timings are marked * where there are no others" in text
        assert "something shared the node" not in text

    @pytest.mark.parametrize(
        ("device", "engine_settings", "share", "said"),
        [
            ("cpu", '{"context": 2048, "threads": null}', 0.5, True),
            ("cpu", '{"context": 2048}', 0.5, True),
            ("cpu", '{"context": 2048, "threads": 2}', 0.5, False),
            ("cpu", '{"context": 2048, "threads": null}', 0.05, False),
            ("cpu", None, 0.5, False),
            ("nvidia-0", '{"context": 2048, "threads": null}', 0.5, False),
        ],
    )
    def test_threads_that_were_left_to_the_engine_on_a_busy_cpu_are_said(
        self, tmp_path: Path, row: MakeRow, device: str, engine_settings: str | None, share: float, said: bool
    ) -> None:
        store = RunStore(tmp_path)
        store.commit(row(device=device, engine_settings=engine_settings, foreign_cpu_share=share))
        assert ("Fewer `threads` under [engine]" in show(tmp_path, width=200, colour=False)) == said

    def test_the_share_of_the_bus_has_a_column_and_one_above_it_is_marked(self, tmp_path: Path, row: MakeRow) -> None:
        store = RunStore(tmp_path)
        store.commit(row(job_id="a", decode_tps=50.0, decode_tps_client=50.0, decode_ceiling_tps=80.0))
        odd = {"decode_tps": 900.0, "decode_tps_client": 900.0, "decode_ceiling_tps": 80.0}
        store.commit(row(job_id="b", quant="Q4_0", **odd))
        text = " ".join(show(tmp_path, width=200, colour=False).split())
        assert "62%" in text
        assert "900.0!" in text
        assert "1125%!" in text
        summaries = {each.quant: each.timings for each in report(tmp_path).summaries}
        assert not summaries["Q4_K_M"].impossible
        assert summaries["Q4_0"].impossible
        assert [cell.quant for cell in side_of_run(tmp_path, "A").cells if "decode_tps" in cell.wrong] == ["Q4_0"]

    @pytest.mark.parametrize(
        ("odd", "mark", "said"),
        [
            ({"decode_tps_client": 20447.0}, "*", "1 request whose decode rates by the server's clock and by ours are"),
            ({"decode_tps_client": 1000.0}, "*", "1 request whose decode rates by the server's clock and by ours are"),
            (
                {"above_ceiling": True},
                "!",
                "1 request with a decode rate above what the memory bus allows (standin Q4_K_M",
            ),
        ],
    )
    def test_a_rate_that_is_contradicted_is_left_out_where_there_are_others_and_marked_where_there_are_none(
        self, tmp_path: Path, row: MakeRow, odd: dict[str, Any], mark: str, said: str
    ) -> None:
        """Also where the request was too short to say whether others kept the machine busy."""
        store = RunStore(tmp_path)
        short = {"foreign_cpu_share": None, "decode_tps": 1924.0, "decode_tps_client": 1924.0}
        store.commit(row(job_id="a", **(short | odd)))
        text = " ".join(show(tmp_path, width=100, colour=False).split())
        assert f"1,924{mark}" in text
        assert said in text
        assert f"are marked {mark} where there are no others" in text
        assert "shared the node" not in text
        # Another that was disturbed, and is at least not contradicted, goes first; and one that is clean before both.
        for job_id, share, rate in (("b", 0.4, 1000.0), ("c", 0.0, 1200.0)):
            store.commit(row(job_id=job_id, foreign_cpu_share=share, decode_tps=rate, decode_tps_client=rate))
            text = " ".join(show(tmp_path, width=100, colour=False).split())
            assert f"{rate:,.0f}{'*' * (job_id == 'b')} 1/" in text
            assert f"{said}" in text
            assert "1,924" not in text

    def test_quants_come_largest_first(self, run_of: Callable[..., Path]) -> None:
        folder = run_of({"a": (1, [1.0]), "c": (3, [1.0]), "b": (2, [1.0])})
        assert [summary.quant for summary in summarise(read_run(folder).table)] == ["c", "b", "a"]


class TestText:
    def test_the_table_reads_like_those_of_the_reports(self, run_of: Callable[..., Path]) -> None:
        lines = show(run_of(QUANTS), width=120, colour=False).splitlines()
        assert lines[0] == "standin on todo (/100), published scoring"
        assert (
            " ".join(lines[1].split())
            == "quant size mean 95% range full built jobs verdict RAM load TTFT tok/s min-max"
        )
        assert " ".join(lines[3].split()) == (
            "Q8_0 1.9 MB 100.0 59.9-100.0 100-100 5/5 5/5 5 91 MB 0.40 s 13 ms 2,000 2,000-2,000"
        )
        assert " ".join(lines[4].split()) == (
            "Q4_K_M 980 kB 90.0 47.2-98.1 60-100 3/4 4/4 4 of 5 undecided +32 91 MB 0.40 s 13 ms 2,000 2,000-2,000"
        )

    @pytest.mark.parametrize("width", [50, 60, 80, 100, 120, 200])
    @pytest.mark.parametrize("model", ["standin", "a-model-with-a-long-name-coder-30b-instruct"])
    def test_it_fits_any_terminal_and_no_figure_is_lost(
        self, run_of: Callable[..., Path], width: int, model: str
    ) -> None:
        folder = run_of({"UD-Q4_K_XL": (17_900_000_000, [100, 90, 32])}, model=model, decode_tps=41.5)
        folder = run_of({"UD-Q4_K_XL": (17_900_000_000, [100, 28])}, model=model, variant="thinking")
        folder = run_of(QUANTS, model=model, peak_vram_bytes=18_000_000_000, ttft_answer_s=183.0)
        text = show(folder, width=width, colour=False)
        assert max(map(len, text.splitlines())) <= width
        assert "\u2026" not in text
        headings = "size mean 95% range full built jobs verdict RAM VRAM load TTFT answer tok/s min-max"
        figures = "47.2-98.1 60-100 3/4 2,000-2,000 32-100 41.5-41.5 18"
        quants = "UD-Q4_K_XL Q8_0 Q4_K_M Q2_K"
        words = set(text.split())
        assert words >= {*headings.split(), *figures.split(), *quants.split()}
        assert "4 of 5" in text
        assert f"{model} (thinking)" in " ".join(text.split())

    def test_of_models_with_one_quant_each_long_names_have_lines_of_their_own(
        self, run_of: Callable[..., Path]
    ) -> None:
        for hour, model in enumerate(("one-model-with-a-long-name-30b", "two-model-with-a-long-name-24b")):
            folder = run_of(
                {"Q4_K_M": (12_000_000_000, [14.0, 15.0])}, model=model, started_at=f"2026-11-20T0{hour}:00:00Z"
            )
        lines = show(folder, width=50, colour=False).splitlines()
        for name in ("one-model-with-a-long-name-30b Q4_K_M", "two-model-with-a-long-name-24b Q4_K_M"):
            places = [place for place, line in enumerate(lines) if line == name]
            assert len(places) == 2
            assert lines[places[0] + 1].split() == ["12", "GB", "14.5", "14-15", "0/2", "2"]
            assert lines[places[1] + 1].split()[-2:] == ["2,000", "2,000-2,000"]

    @pytest.mark.parametrize(
        "quant", ["量子化-Q4_K_M", "Q4\u200b\u200b\u200b\u202e_K_M", "Q4\u0301\u0301\u0301\u0301_K"]
    )
    def test_names_of_any_width_push_no_figure_out(self, tmp_path: Path, row: MakeRow, quant: str) -> None:
        with RunStore(tmp_path) as store:
            for seed, score in enumerate((14.0, 100.0), 1):
                store.commit(row(job_id=f"j{seed}", seed=seed, score=score, quant=quant))
        for width in (50, 51, 52, 53, 60, 99, 100, 101):
            text = show(tmp_path, width=width, colour=False)
            assert "\u2026" not in text
            assert max(map(cell_len, text.splitlines())) <= width
            assert {"2,000-2,000", "14-100", "1/2", "980", "91"} <= set(text.split())

    def test_the_spread_of_rates_stands_beside_their_median(self, tmp_path: Path, row: MakeRow) -> None:
        store = RunStore(tmp_path)
        for seed, rate in enumerate((41.0, 20.5, 42.25), 1):
            store.commit(row(job_id=f"j{seed}", seed=seed, decode_tps=rate, decode_tps_client=rate))
        text = show(tmp_path, width=100, colour=False)
        assert "41.0  20.5-42.2" in text
        timings = json.loads(show(tmp_path, as_json=True))["summaries"][0]["timings"]
        assert (timings["decode_tps"], timings["decode_tps_low"], timings["decode_tps_high"]) == (41.0, 20.5, 42.25)

    def test_what_is_not_the_median_of_all_requests_says_of_how_many_it_is(self, tmp_path: Path, row: MakeRow) -> None:
        store = RunStore(tmp_path)
        for seed, share in enumerate((0.5, 0.4, 0.0), 1):
            rates = {"decode_tps": 41.0, "decode_tps_client": 41.0, "foreign_cpu_share": share}
            store.commit(row(job_id=f"a{seed}", seed=seed, quant="A", **rates))
            store.commit(row(job_id=f"b{seed}", seed=seed, quant="B", **(rates | {"foreign_cpu_share": 0.0})))
        lines = [line.split() for line in show(tmp_path, width=140, colour=False).splitlines()]
        assert lines[1][-4:] == ["TTFT", "tok/s", "of", "min-max"]
        assert lines[3][-4:] == ["13", "ms", "41.0", "1/3"]
        assert lines[4][-4:] == ["13", "ms", "41.0", "41.0-41.0"]
        # A reply of one token has a TTFT and no rate: the two are of different numbers.
        store.commit(row(job_id="b4", seed=4, quant="B", decode_tps=None, decode_tps_client=None))
        for width in (50, 60, 100):
            text = show(tmp_path, width=width, colour=False)
            assert max(map(len, text.splitlines())) <= width
            assert {"1/3", "4/4", "3/4", "41.0-41.0"} <= set(text.split())

    def test_one_request_has_no_spread(self, run_of: Callable[..., Path]) -> None:
        assert "min-max" not in show(run_of({"Q4": (1, [1.0])}), width=100, colour=False)

    def test_with_a_gpu_memory_is_the_gpus(self, run_of: Callable[..., Path]) -> None:
        folder = run_of({"Q4_K_M": (16_000_000_000, [100.0])}, peak_vram_bytes=18_200_000_000)
        assert "18 GB" in show(folder, width=80, colour=False)

    def test_reasoning_before_the_answer_gets_its_own_column(self, run_of: Callable[..., Path]) -> None:
        text = show(run_of({"Q4": (1_000, [100.0])}, ttft_any_s=1.2, ttft_answer_s=183.0), width=80, colour=False)
        assert "answer" in text.splitlines()[1]
        assert "1.20 s" in text
        assert "183 s" in text

    def test_one_line_says_what_the_headings_mean_that_are_there(self, run_of: Callable[..., Path]) -> None:
        text = show(run_of(QUANTS), width=120, colour=False)
        meant = (
            "95%: interval of the mean; range: of scores; full: full marks; built: programs that build and get a "
            "point; jobs: with a score; verdict: against the best larger quant; +12: seeds that would decide; "
            "min-max: tok/s"
        )
        assert " ".join(text.split()).count(meant) == 1
        assert f"\x1b[2m{meant}\x1b[0m" in show(run_of({}), width=300, colour=True)

    def test_a_heading_that_is_not_there_is_not_explained(self, run_of: Callable[..., Path]) -> None:
        assert "\nrange: of scores; full: full marks\n" in show(run_of({"Q4": (1, [1.0])}), colour=False)

    def test_a_column_of_times_has_one_unit(self, run_of: Callable[..., Path]) -> None:
        run_of({"Q8_0": (2_000, [100.0])}, load_s=0.1, ttft_any_s=4e-4, ttft_answer_s=4e-4)
        folder = run_of({"Q4_0": (1_000, [100.0])}, load_s=0.073, ttft_any_s=0.0121)
        lines = [line.split() for line in show(folder, width=120, colour=False).splitlines()]
        assert [line[-5:-1] for line in lines if line[:1] in (["Q8_0"], ["Q4_0"])] == [
            ["100", "ms", "0.40", "ms"],
            ["73", "ms", "12", "ms"],
        ]

    def test_colour_only_where_it_is_wanted(self, run_of: Callable[..., Path]) -> None:
        folder = run_of(QUANTS)
        assert "\x1b" not in show(folder, colour=False)
        assert "\x1b[" in show(folder, colour=True)

    def test_names_are_not_taken_for_markup(self, run_of: Callable[..., Path]) -> None:
        text = show(run_of({"Q4": (1, [1.0])}, model="model[bold]x", quant="Q[red]4", job_id="j"), colour=False)
        assert "model[bold]x on todo" in text
        assert "Q[red]4" in text

    def test_models_with_one_quant_each_share_a_table(self, run_of: Callable[..., Path]) -> None:
        for hour, model in enumerate(("gpt-oss-20b", "gemma-4-26b")):
            quants = {"Q4_K_M": (12_000_000_000, [14.0])}
            folder = run_of(quants, model=model, score_max=15.0, exam="go-v1", started_at=f"2026-11-20T0{hour}:00:00Z")
        lines = show(folder, width=90, colour=False).splitlines()
        assert lines[0] == "go-v1 (/15), published scoring"
        assert lines[3].startswith("gpt-oss-20b Q4_K_M")
        assert lines[4].startswith("gemma-4-26b Q4_K_M")

    def test_the_notes_say_what_was_marked_and_left_out(
        self, run_of: Callable[..., Path], row: MakeRow, infrastructure_row: MakeRow
    ) -> None:
        folder = run_of(QUANTS)
        store = RunStore(folder)
        store.commit(row(job_id="cut", seed=6, score=28.0, outcome="max_tokens", outcome_class="budget"))
        store.commit(infrastructure_row(job_id="open", seed=7, final=False))
        store.commit(infrastructure_row(job_id="again", seed=8, final=False))
        store.commit(row(job_id="again", seed=8, attempt=2, hardware_class="gpu-y", scoring="strict"))
        (store.attempts_folder / "torn-1.parquet").write_bytes(b"PAR1")
        text = " ".join(show(folder, colour=False).split())
        for note in (
            "1 job begun and not ended: not in the figures.",
            (
                "1 of 17 jobs ended without a score because the infrastructure failed; the means leave them out "
                "(standin Q4_K_M 6 of 7 scored, mean with the rest as 0: 69.7). `quantsweep run ... --retry-failed`"
            ),
            "1 answer cut off by its token limit (standin Q4_K_M: 1): scored as far as that goes, and in the means;",
            "1 earlier attempt on record, not in the figures.",
            "More than one version of prompt or grader, or more than one scoring, in standin Q4_K_M: means of several",
            "Timings come from different hardware (cpu-x, gpu-y)",
            "1 damaged file left out (torn-1.parquet); their jobs run again when the sweep is started.",
        ):
            assert note in text

    def test_a_sound_run_has_no_notes(self, run_of: Callable[..., Path]) -> None:
        assert "Note" not in show(run_of({"Q8_0": (2_000, [100.0] * 3)}), colour=False)


class TestEmptyAndPartial:
    def test_a_run_that_has_only_begun_says_so(self, tmp_path: Path) -> None:
        RunStore(tmp_path)
        assert show(tmp_path) == f"No attempt in {tmp_path} yet: nothing has been committed."
        assert json.loads(show(tmp_path, as_json=True))["summaries"] == []

    def test_a_run_without_its_folder_yet_says_so_too(self, tmp_path: Path) -> None:
        assert "nothing has been committed" in show(tmp_path)

    def test_an_empty_run_with_a_damaged_file_says_that(self, tmp_path: Path) -> None:
        (RunStore(tmp_path).attempts_folder / "x-1.parquet").write_bytes(b"")
        assert "1 damaged file left out" in show(tmp_path)

    def test_no_run_is_an_error_for_people(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="there is no run at"):
            show(tmp_path / "nothing")

    def test_a_table_with_failures_only_has_no_means(self, run_of: Callable[..., Path]) -> None:
        text = show(run_of({"Q8_0": (2_000, [None, None])}), colour=False)
        assert "0 of 2" in text
        assert "no quant has a score yet" in text

    def test_every_prefix_of_a_run_can_be_shown(self, run_of: Callable[..., Path]) -> None:
        table = read_run(run_of(QUANTS)).table
        for rows in range(table.num_rows + 1):
            assert render(table.slice(0, rows)).strip()
            json.loads(render(table.slice(0, rows), as_json=True))


def test_json_says_what_the_tables_say(run_of: Callable[..., Path]) -> None:
    content = json.loads(show(run_of(QUANTS), as_json=True))
    assert (content["sweeps"], content["attempts"], content["jobs"]) == (["quickstart"], 15, 15)
    assert [summary["quant"] for summary in content["summaries"]] == ["Q8_0", "Q4_K_M", "Q2_K"]
    assert content["summaries"][1]["mean"] == 90.0
    assert content["answers"][0]["smallest"] == "Q8_0"
    assert content["answers"][0]["comparisons"][0]["reference"] == "Q8_0"
    assert "1 of 15 jobs" in content["notes"][0]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([0.073, 0.1, None], ["73 ms", "100 ms", ""]),
        ([0.0033, 1.2345], ["3.3 ms", "1,234 ms"]),
        ([0.00085, 0.0005], ["850 us", "500 us"]),
        ([0.00085, 0.5], ["0.85 ms", "500 ms"]),
        ([0.25, 0.87, 12.31, 183.0], ["0.25 s", "0.87 s", "12.3 s", "183 s"]),
        ([0.012, 12.31, 183.0], ["0.012 s", "12.3 s", "183 s"]),
        ([None], [""]),
    ],
)
def test_times_of_one_column_have_one_unit(seconds: list[float | None], expected: list[str]) -> None:
    assert figures.durations(seconds) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (figures.size(None), ""),
        (figures.size(999), "999 B"),
        (figures.size(1_040), "1.0 kB"),
        (figures.size(980_000), "980 kB"),
        (figures.size(999_600), "1.0 MB"),
        (figures.size(15_300_000_000), "15 GB"),
        (figures.size(2_400_000_000_000), "2.4 TB"),
        (figures.duration(None), ""),
        (figures.duration(0.00085), "850 us"),
        (figures.duration(0.0033), "3.3 ms"),
        (figures.duration(0.0121), "12 ms"),
        (figures.duration(0.87), "0.87 s"),
        (figures.duration(15.81), "15.8 s"),
        (figures.duration(183.0), "183 s"),
        (figures.rate(22.1), "22.1"),
        (figures.rate(1510.2), "1,510"),
        (figures.rate(0.417), "0.42"),
        (figures.rate(None), ""),
        (figures.plain(100.0), "100"),
        (figures.plain(71.428), "71.43"),
        (figures.points(14.333), "14.3"),
        (figures.count(1, "seed"), "1 seed"),
        (figures.count(1200, "seed"), "1,200 seeds"),
    ],
)
def test_figures_are_written_as_people_read_them(written: str, expected: str) -> None:
    assert written == expected
