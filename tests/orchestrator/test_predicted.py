"""Rates of runs: which of them predictions learn from, and predicted beside measured."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from typer.testing import CliRunner

from orchestrator.cli.app import app
from orchestrator.measured import hardware_of_class, measured_cells
from results.store import RunStore
from tests.results.conftest import make_row

if TYPE_CHECKING:
    from pathlib import Path

FACTS = {"parameters": 8_000_000_000, "parameters_active": 8_000_000_000, "bits_per_weight": 4.8}
ROOMY = {"decode_ceiling_tps": 100.0, "hardware_class": "nvidia-geforce-rtx-3080-ti-12g-0123abcd", "device": "nvidia-0"}


def committed(root: Path, **changes: Any) -> None:
    rate = changes.setdefault("decode_tps", 60.0)
    row = FACTS | ROOMY | {"prefill_tps": 2000.0, "prompt_tokens": 300, "decode_tps_client": rate} | changes
    RunStore(root).commit(make_row(**row))


def run_folder(root: Path) -> Path:
    for number, (quant, tps, ceiling) in enumerate([("Q4_K_M", 60.0, 100.0), ("Q8_0", 40.0, 55.0)]):
        committed(root, job_id=f"j{number}", quant=quant, decode_tps=tps, decode_ceiling_tps=ceiling)
    (root / "run.json").write_text("{}")
    return root


def test_what_says_nothing_of_the_hardware_is_not_learned_from(tmp_path: Path) -> None:
    committed(tmp_path, job_id="good")
    committed(tmp_path, job_id="draft", quant="A", draft_accept_rate=0.5)
    committed(tmp_path, job_id="cold", quant="B", cold=True)
    committed(tmp_path, job_id="beside", quant="C", shared_with='["x"]')
    committed(tmp_path, job_id="above", quant="D", decode_tps=106.0)
    committed(tmp_path, job_id="unknown", quant="E", decode_ceiling_tps=None)
    found = measured_cells(tmp_path)
    assert [cell.quant for cell in found] == ["Q4_K_M"]
    assert found[0].observation.decode_tps == 60.0
    assert found[0].observation.prefill_tps == 2000.0


def test_the_card_behind_a_hardware_class_is_found() -> None:
    found = hardware_of_class("nvidia-geforce-rtx-3080-ti-12g-0123abcd", "nvidia-0")
    assert (found.key, found.family) == ("GeForce RTX 3080 Ti", "nvidia")
    assert hardware_of_class("some-cpu-16g-0123abcd", "cpu").family == "cpu"
    assert hardware_of_class("nobody-knows-this-16g-0123abcd", "nvidia-0").family == "other"


def test_predicted_stands_beside_measured(tmp_path: Path) -> None:
    root = run_folder(tmp_path / "run")
    text = " ".join(CliRunner().invoke(app, ["show", str(root), "--predicted"]).output.split())
    assert "Median error of 2 cells" in text
    assert "from the run's other cells" in text
    answer = json.loads(CliRunner().invoke(app, ["show", str(root), "--predicted", "--json"]).output)
    cell = answer["cells"][0]
    assert cell["decode_tps"] == 60.0
    assert cell["before"]["low"] < cell["before"]["tps"] < cell["before"]["high"]
    assert cell["others"]["local"] == 1
    assert abs(cell["others"]["error"]) < 0.2


def test_another_run_is_learned_from(tmp_path: Path) -> None:
    root, other = run_folder(tmp_path / "run"), run_folder(tmp_path / "other")
    found = CliRunner().invoke(app, ["show", str(root), "--predicted", "--measured", str(other), "--json"])
    assert json.loads(found.output)["cells"][0]["before"]["local"] == 2


def test_a_folder_that_is_no_run_is_said(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["show", str(run_folder(tmp_path / "r")), "--predicted", "--measured", "/nowhere"])
    assert found.exit_code != 0


def test_fits_predicts_rates_for_cards_and_learns_from_a_run(tmp_path: Path) -> None:
    asked = ["fits", "builtin:stand-in", "--card", "rtx-3080-ti", "--json"]
    found = json.loads(CliRunner().invoke(app, asked).stdout)[0]["verdicts"]["rtx-3080-ti"]
    assert 0 < found["decode"]["low"] < found["decode"]["tps"] < found["decode"]["high"]
    assert found["decode"]["local"] == 0
    assert found["prefill"]["tps"] > 0
    learned = json.loads(CliRunner().invoke(app, [*asked, "--measured", str(run_folder(tmp_path / "r"))]).stdout)
    assert learned[0]["verdicts"]["rtx-3080-ti"]["decode"]["local"] == 2
    assert "tok/s" in CliRunner().invoke(app, asked[:-1]).stdout
    by_size = json.loads(CliRunner().invoke(app, ["fits", "builtin:stand-in", "--vram", "12", "--json"]).stdout)
    assert by_size[0]["verdicts"]["12 GB"]["decode"] is None
