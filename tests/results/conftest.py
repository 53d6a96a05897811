"""Rows as a sweep makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INFRASTRUCTURE = {"outcome": "server_crash", "outcome_class": "infrastructure", "score": None, "error": "it crashed"}


class MakeRow(Protocol):
    def __call__(self, **changes: Any) -> dict[str, Any]: ...


def make_row(**changes: Any) -> dict[str, Any]:
    row = {
        "sweep": "quickstart",
        "job_id": "j1-0123abcd",
        "attempt": 1,
        "final": True,
        "model": "standin",
        "quant": "Q4_K_M",
        "variant": "default",
        "exam": "todo",
        "prompt_version": "1",
        "grader_version": "1",
        "seed": 1,
        "file_bytes": 980_000,
        "engine": "embedded",
        "load_s": 0.4,
        "cold": False,
        "ttft_any_s": 0.013,
        "ttft_answer_s": 0.013,
        "cached_tokens": 0,
        "decode_tps": 2000.0,
        "decode_tps_client": 1990.0,
        "peak_ram_bytes": 91_000_000,
        "score": 100.0,
        "score_max": 100.0,
        "scoring": "published",
        "scores": '{"published": 100, "strict": 88}',
        "outcome": "passed",
        "outcome_class": "model",
        "shared_with": "[]",
        "hardware_class": "cpu-x",
        "node": "n1",
        "reply": "import sqlite3\n",
        "started_at": "2026-11-20T10:00:00Z",
    }
    return row | changes


@pytest.fixture
def row() -> MakeRow:
    """A sound row, with whatever is to be different."""
    return make_row


@pytest.fixture
def infrastructure_row() -> MakeRow:
    return lambda **changes: make_row(**(INFRASTRUCTURE | changes))


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[..., Path]:
    """Commits {quant: (file_bytes, scores)} as a run and gives its folder; seeds count from 1, None is a failure."""

    def build(quants: dict[str, tuple[int | None, list[float | None]]], **changes: Any) -> Path:
        from results.store import RunStore

        folder = tmp_path / "runs" / "quickstart"
        store = RunStore(folder)
        for quant, (file_bytes, scores) in quants.items():
            for seed, score in enumerate(scores, 1):
                name = "-".join(str(changes.get(key, "")) for key in ("model", "variant", "exam"))
                fields: dict[str, Any] = {
                    "quant": quant,
                    "file_bytes": file_bytes,
                    "seed": seed,
                    "job_id": f"j{name}-{quant}-{seed}",
                }
                if score is None:
                    fields |= INFRASTRUCTURE
                else:
                    fields |= {"score": score, "outcome": "passed" if score == 100 else "wrong"}
                assert store.commit(make_row(**(fields | changes)))
        return folder

    return build
