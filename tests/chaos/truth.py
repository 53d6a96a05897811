"""What every job must score: asked of the engine and the grader themselves, one after another, without a sweep.

Sampling is seeded and the engine has one thread, so the same job has the same answer every time; a row that says
otherwise is the machine's doing, not the model's.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.expand import expand
from orchestrator.spec import parse_spec
from quants.cache import fetch
from runners.chat import ChatRequest
from runners.engines import get_engine
from runners.exams import get_exam
from runners.exams.base import Reply
from runners.sandbox import open_sandbox
from tests.chaos.cluster import ROOT
from tests.chaos.sweep import spec_text
from tests.runners.exams.graded import grade as grade_reply

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Known:
    """What a job is worth, whoever runs it."""

    score: float
    reply: str

    def differs(self, row: dict[str, Any]) -> str:
        """In what a row differs from this, "" if in nothing."""
        if row["score"] != self.score:
            return f"score {row['score']} instead of {self.score} ({row['outcome']})"
        return "" if row["reply"] == self.reply else "another reply"


def learn(models: Path, *, seeds: int, engine: str, folder: Path, environment: Mapping[str, str]) -> dict[str, Known]:
    """The score and the reply of every job of a sweep by its id, from a process of its own: half a second each."""
    words = [sys.executable, "-m", "tests.chaos.truth", str(models), str(seeds), engine, str(folder)]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True, cwd=ROOT, env=environment)
    return {job_id: Known(**known) for job_id, known in json.loads(done.stdout).items()}


def ask(models: Path, *, seeds: int, engine: str, folder: Path) -> dict[str, Known]:
    """What `learn` returns."""
    text = spec_text(models, seeds=seeds, engine=engine)
    plan = expand(parse_spec(text, "chaos"), file="chaos", text=text, base_dir=folder)
    exam, sandbox = get_exam("todo"), open_sandbox()
    messages = exam.tasks()[0].messages
    found: dict[str, Known] = {}
    for cell in plan.cells:
        served = get_engine(cell.engine.kind).load(
            fetch(cell.artifact), cell.engine, log_path=folder / "truth.log", device="CPU"
        )
        try:
            for job in plan.jobs:
                if job.cell_id != cell.cell_id:
                    continue
                result = served.chat(ChatRequest(messages=messages, sampling=cell.sampling, seed=job.seed))
                reply = Reply(text=result.text, reasoning=result.reasoning or None, finish_reason=result.finish_reason)
                with tempfile.TemporaryDirectory(dir=folder) as work:
                    grade = grade_reply(exam, reply, sandbox, Path(work))
                found[job.job_id] = Known(grade.scores[plan.scoring["todo"]], result.text)
        finally:
            served.stop()
    return found


if __name__ == "__main__":
    models, seeds, engine, folder = sys.argv[1:]
    known = ask(Path(models), seeds=int(seeds), engine=engine, folder=Path(folder))
    print(json.dumps({job_id: asdict(each) for job_id, each in known.items()}))
