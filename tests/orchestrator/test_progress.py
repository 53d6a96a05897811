"""What is shown while a sweep runs."""

from __future__ import annotations

import io
from typing import Any

import pytest

from orchestrator.progress import LiveProgress, PlainProgress, Tally, duration, watch
from orchestrator.terminal import Printer
from profiles.types import Device, NodeProfile
from runners.orders import ModelLoaded, PhaseChanged

PROFILE = NodeProfile(
    hostname="box",
    os="Linux",
    arch="x86_64",
    probed_at="2026-01-01T00:00:00Z",
    devices=(Device(id="cpu", vendor="cpu", name="A CPU", kind="cpu"),),
)


def row(*, final: bool = True, outcome_class: str = "model", score: float | None = 100.0) -> dict[str, Any]:
    return {
        "model": "m",
        "variant": "default",
        "quant": "Q8_0",
        "exam": "todo",
        "seed": 7,
        "final": final,
        "outcome": "passed" if outcome_class == "model" else "server_crash",
        "outcome_class": outcome_class,
        "score": score,
        "score_max": 100.0,
        "decode_tps": 41.6,
        "error": None if outcome_class == "model" else "the engine ended\nlog follows",
    }


@pytest.mark.parametrize(("seconds", "text"), [(4.4, "4s"), (75, "1m 15s"), (3600 * 2 + 300, "2h 05m")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_estimate_counts_from_the_first_job_of_this_start() -> None:
    now = [100.0]
    tally = Tally(10, 4, clock=lambda: now[0])
    assert tally.left_s() is None
    tally.begin()
    now[0] = 106.0
    tally.count(row())
    tally.count(row())
    assert tally.left_s() == pytest.approx(12.0)
    assert tally.line() == "6 of 10 jobs done, about 12s left"


def test_failures_and_retries_are_told_apart() -> None:
    tally = Tally(2, 0)
    tally.count(row(final=False, outcome_class="infrastructure", score=None))
    tally.count(row(outcome_class="infrastructure", score=None))
    assert tally.line() == "1 of 2 jobs done, 1 failed, 1 retried"


def test_plain_lines() -> None:
    out = io.StringIO()
    view = PlainProgress(Tally(2, 0), Printer(out))
    view.node_joined("id", PROFILE)
    view.started("L1", "id", "cpu", "m Q8_0")
    view.committed(row())
    view.committed(row(outcome_class="infrastructure", score=None))
    assert out.getvalue().splitlines() == [
        "node box: A CPU",
        "box/cpu: loading m Q8_0",
        "  m Q8_0 todo seed 7: score 100/100, 42 tok/s; 1 of 2 jobs done",
        "  m Q8_0 todo seed 7: no score: server_crash (the engine ended), 42 tok/s; 2 of 2 jobs done, 1 failed",
    ]


def test_the_live_view_shows_a_line_a_device() -> None:
    from rich.console import Console

    console = Console(width=100, file=io.StringIO(), force_terminal=False)
    view = LiveProgress(Tally(3, 1), Printer(None))
    view.node_joined("id", PROFILE)
    view.started("L1", "id", "cpu", "m Q8_0")
    view.loaded(ModelLoaded(lease_id="L1", load_s=2.0))
    view.phase(PhaseChanged(lease_id="L1", phase="generating", number=2, total=3, tokens=9, tokens_per_s=33.3))
    with console.capture() as capture:
        console.print(view)
    text = capture.get()
    for part in ("box/cpu", "m Q8_0", "generating", "job 2 of 3", "33", "1 of 3 jobs done"):
        assert part in text
    view.node_lost("id")
    with console.capture() as capture:
        console.print(view)
    assert "box/cpu" not in capture.get()


def test_a_file_gets_plain_lines() -> None:
    out = io.StringIO()
    with watch(1, 0, Printer(out)) as view:
        view.say("hello")
    assert out.getvalue() == "hello\n"


def test_for_whom_a_lease_waits_is_said_once_each() -> None:
    out = io.StringIO()
    view = PlainProgress(Tally(2, 0), Printer(out))
    view.node_joined("n1", PROFILE)
    view.started("L1", "n1", "cpu", "m Q8_0")
    theirs = "other Q4_0 of sweep nightly (ann, pid 7, since 2026-01-01 10:00:00)"
    for holder in (theirs, theirs, "another program"):
        view.phase(PhaseChanged(lease_id="L1", phase="waiting for device", holder=holder))
    said = [line for line in out.getvalue().splitlines() if "waits" in line]
    assert said == [
        f"box/cpu: the device is in use; m Q8_0 waits for {theirs}",
        "box/cpu: the device is in use; m Q8_0 waits for another program",
    ]
    view.phase(PhaseChanged(lease_id="L1", phase="loading"))


def test_a_line_for_a_row_names_its_variant() -> None:
    said = io.StringIO()
    view = PlainProgress(Tally(2, 0), Printer(said))
    view.committed(row() | {"variant": "nothink"})
    view.committed(row())
    assert said.getvalue().splitlines()[0].startswith("  m (nothink) Q8_0 todo seed 7: score 100/100")
    assert said.getvalue().splitlines()[1].startswith("  m Q8_0 todo seed 7")


@pytest.mark.parametrize("width", [50, 80, 99, 100, 120])
def test_the_live_view_fits_and_keeps_its_figures(width: int) -> None:
    view = LiveProgress(Tally(300, 120), Printer(None))
    view.node_joined("n1", PROFILE)
    view.started("l1", "n1", "nvidia-0", "qwen3-coder-30b-instruct UD-Q4_K_XL nothink")
    view.phase(PhaseChanged(lease_id="l1", phase="generating", number=12, total=30, tokens_per_s=137.2))
    text = Printer(None).text_of(view, width=width, colour=False)
    assert max(map(len, text.splitlines())) <= width
    for figure in ("box/nvidia-0", "generating", "job 12 of 30", "137", "120 of 300 jobs done"):
        assert figure in " ".join(text.split())
    if width < 100:
        assert "qwen3-coder-30b-instruct UD-Q4_K_XL nothink" in " ".join(text.split())
