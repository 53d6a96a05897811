"""Programs that the crash tests kill: each writes to a run folder and says on standard output what is durable."""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = ("open", "write", "fsync", "link", "unlink", "rename", "close")


def die_at_step(number: int, before: bool) -> None:
    """From here on this process kills itself at its `number`th call of one of STEPS, before or after the call."""
    done = 0

    def wrap(call: Any) -> Any:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal done
            done += 1
            if before and done == number:
                os.kill(os.getpid(), signal.SIGKILL)
            mine = done == number
            try:
                return call(*arguments, **options)
            finally:
                if mine and not before:
                    os.kill(os.getpid(), signal.SIGKILL)

        return wrapped

    for name in STEPS:
        setattr(os, name, wrap(getattr(os, name)))


def one_file(how: str, target: str, number: str, when: str) -> None:
    """Makes or replaces one file with results.durable, which needs no Parquet, and dies at a step."""
    from results import durable

    die_at_step(int(number), when == "before")
    if how == "create":
        durable.create_exclusive(Path(target), b"new" * 1000)
    else:
        durable.replace(Path(target), b"new" * 1000)
    print("survived", flush=True)


def sweep(folder: str, jobs: str, row_text: str, opened: Callable[[], object] = lambda: None) -> None:
    """Commits what is missing of a sweep whose every third job fails once, then compacts; as often as it is started."""
    import json

    from results.store import RunStore

    store = RunStore(Path(folder))
    row = json.loads(row_text)
    failure = {"score": None, "outcome": "server_crash", "outcome_class": "infrastructure"}
    opened()
    for number in range(int(jobs)):
        job_id = f"j{number}"
        if number % 3 == 0 and (job_id, 1) not in store.committed():
            store.commit({**row, **failure, "job_id": job_id, "attempt": 1})
            print(job_id, 1, flush=True)
        if store.finals().get(job_id) != "model":
            store.commit({**row, "job_id": job_id, "attempt": 2})
            print(job_id, 2, flush=True)
        if number % 10 == 9:
            store.compact()
    print("done", flush=True)


def race(folder: str, jobs: str, row_text: str, name: str) -> None:
    """Waits for a line, then commits the same attempts as its rivals, and says which of them it won."""
    import json

    from results.store import RunStore

    store = RunStore(Path(folder))
    row = json.loads(row_text)
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(int(jobs)):
        if store.commit({**row, "job_id": f"j{number}", "reply": name}):
            print(f"j{number}", flush=True)


def nursery(folder: str, jobs: str, row_text: str) -> None:
    """For each line it reads, runs `sweep` in a child, and kills that so many seconds after it has opened its store.

    A child of a process that has imported everything begins within milliseconds: that allows many kills. And a parent
    may kill its child at any moment without hitting a stranger: the pid is not free before it has waited.
    """
    import pyarrow.parquet  # noqa: F401 - for the children

    import results.store  # noqa: F401 - idem

    for delay in sys.stdin:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            sweep(folder, jobs, row_text, opened=partial(os.write, writing, b"."))
            os._exit(0)
        os.close(writing)
        os.read(reading, 1)
        os.close(reading)
        if delay.strip() != "never":
            time.sleep(float(delay))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print("ended", os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    programs: dict[str, Callable[..., None]] = {"one_file": one_file, "sweep": sweep, "race": race, "nursery": nursery}
    programs[sys.argv[1]](*sys.argv[2:])
