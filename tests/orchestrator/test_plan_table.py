"""The table of `quantsweep plan`: it fits from 50 columns on, and says what is wrong with what does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.plan_table import plan_table
from orchestrator.terminal import Printer

GIB = 1 << 30


def report(
    quant: str, verdict: str = "fits", gib: float = 3.1, *, model: str = "qwen3-coder-30b", **more: Any
) -> dict[str, Any]:
    reason = f"{verdict}: needs 20.3 GiB in all; {abs(gib)} GiB"
    verdicts = {"nvidia-0": {"verdict": verdict, "headroom_bytes": round(gib * GIB), "reason": reason}}
    return {
        "model": model,
        "variant": None,
        "quant": quant,
        "file_bytes": 17_900_000_000,
        "jobs": 120,
        "verdicts": verdicts,
        "missing": None,
    } | more


REPORTS = [
    report("UD-Q4_K_XL"),
    report("Q8_0", "too_big", -9.4),
    report("Q5_K_M", "fits_offloaded", 0.5, variant="nothink"),
    report("F16", "unknown", 0.2, model="a-model-with-a-very-long-name-of-somebody-else-24b-instruct"),
    report("Q6_K", missing="llama-server is not on this machine", verdicts={}),
]


def shown(reports: list[dict[str, Any]], width: int) -> str:
    return Printer(None).text_of(*plan_table(reports), width=width, colour=False)


@pytest.mark.parametrize("width", [50, 80, 120, 200])
def test_it_fits_and_no_figure_is_lost(width: int) -> None:
    text = shown(REPORTS, width)
    assert max(map(len, text.splitlines())) <= width
    assert "\u2026" not in text
    whole = " ".join(text.split())
    for said in ("UD-Q4_K_XL 18 GB 120 nvidia-0 fits, 3.1 GiB free", "qwen3-coder-30b (nothink)", "no engine"):
        assert said in whole
    # What does not simply fit is explained below.
    assert "qwen3-coder-30b Q8_0: nvidia-0: too_big: needs 20.3 GiB in all; 9.4 GiB" in whole
    assert "Q6_K: llama-server is not on this machine" in whole
    assert "needs 20.3 GiB in all; 3.1 GiB" not in whole


def test_on_a_wide_terminal_every_cell_is_one_line() -> None:
    lines = shown(REPORTS[:3], 120).splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["model", *["qwen3-coder-30b"] * 3]


def test_one_reason_for_many_cells_is_said_once() -> None:
    gone: dict[str, Any] = {"missing": "llama-server is not on this machine", "verdicts": {}}
    text = shown([report("Q8_0", **gone), report("Q4_K_M", **gone)], 200)
    assert text.splitlines()[-1] == "qwen3-coder-30b Q8_0, qwen3-coder-30b Q4_K_M: llama-server is not on this machine"


def test_what_is_missing_is_never_nothing() -> None:
    assert "too big, 12.3 MiB missing" in shown([report("Q8_0", "too_big", -0.012)], 200)


def test_the_best_place_is_the_one_that_is_named() -> None:
    both = report("Q8_0")
    both["verdicts"] = report("x", "too_big", -1.0)["verdicts"] | {
        "nvidia-1": report("x", "fits", 7.0)["verdicts"]["nvidia-0"]
    }
    assert "nvidia-1  fits, 7.0 GiB free" in shown([both], 100)


def test_a_model_without_a_file_has_no_size() -> None:
    assert "None" not in shown([report("none", file_bytes=None)], 100)
