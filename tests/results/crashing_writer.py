"""Programs that the crash tests kill: each writes to a run folder and says on standard output what is durable."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = ("mkdir", "open", "write", "lseek", "fsync", "link", "unlink", "rename", "close")
ROWS_OF_A_PART = 6
"""So few, that parts are closed all the time."""
ROWS_BEFORE = {"first": 0, "add": 3, "close": ROWS_OF_A_PART - 1, "mark": ROWS_OF_A_PART + 2}
ROWS_BEFORE |= {"regrade": ROWS_OF_A_PART + 2, "outgrown": ROWS_OF_A_PART + 2, "files": 2}
MARKING = ("mark", "regrade", "outgrown")
"""What takes the mark from a row in a closed part: a failure's, a score's, a score's in a part that has grown large."""


FILES = (b"a picture", b"a log")


def files_column() -> str:
    """The column of a row that names FILES."""
    import hashlib
    import json

    shas = [hashlib.sha256(data).hexdigest() for data in FILES]
    named = [(f"{number}.bin", sha, len(FILES[number])) for number, sha in enumerate(shas)]
    return json.dumps([{"name": n, "media_type": "a/b", "sha256": s, "bytes": b} for n, s, b in named])


def content_of(sha256: str) -> bytes | None:
    """What one of FILES holds."""
    import hashlib

    return next((data for data in FILES if hashlib.sha256(data).hexdigest() == sha256), None)


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


def sweep(folder: str, jobs: str, row_text: str, step: Callable[[], object] = lambda: None) -> None:
    """Commits what is missing of a sweep; as often as it is started.

    Every third job fails finally at first, and is run again when all the others are done. Some attempts come together.
    `step` is called when the store is open, and after every commit.
    """
    import json

    from results import parts
    from results.store import RunStore

    patch.object(parts, "MOST_ROWS", ROWS_OF_A_PART).start()
    row = json.loads(row_text)
    failure = {"score": None, "outcome": "server_crash", "outcome_class": "infrastructure"}
    with RunStore(Path(folder)) as store:
        step()

        def commit(*attempts: tuple[int, int]) -> None:
            missing = [(f"j{number}", attempt) for number, attempt in attempts]
            missing = [key for key in missing if key not in store.committed()]
            store.commit_many(
                [
                    {**row, **(failure if attempt == 1 else {}), "job_id": job_id, "attempt": attempt}
                    for job_id, attempt in missing
                ]
            )
            if missing:
                print(*(f"{job_id} {attempt}" for job_id, attempt in missing), sep="\n", flush=True)
                step()

        for number in range(0, int(jobs), 3):
            commit((number, 1))
            commit((number + 1, 2), (number + 2, 2))
            if number % 10 == 9:
                store.compact()
        for number in range(0, int(jobs), 3):
            commit((number, 2))
    print("done", flush=True)


def relay(folder: str, jobs: str, row_text: str, name: str) -> None:
    """Waits until nobody else writes, commits some of the attempts that are missing, says which, and dies."""
    import json

    from results.store import RunStore, StoreError

    row = json.loads(row_text)
    while True:
        try:
            store = RunStore(Path(folder))
        except StoreError as error:
            if "being written by" not in str(error):
                raise
            time.sleep(0.01)
            continue
        missing = [number for number in range(int(jobs)) if (f"j{number}", 1) not in store.committed()]
        for number in missing[: int(jobs) // 3 + 1]:
            if store.commit({**row, "job_id": f"j{number}", "reply": name}):
                print(f"j{number}", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


def prepare() -> None:
    """Import what children need."""
    import pyarrow.parquet  # noqa: F401 - for the children

    import results.store  # noqa: F401 - idem


def commits(folder: str, row_text: str) -> None:
    """For each line it reads, `kind step`, has a child die before that step of a commit of that kind.

    Says how the child ended. Kinds are a first row, a row more, the row that closes a part, those of MARKING, and a row
    that names files. The child commits in `folder`/run, which is made anew for each.
    """
    import json

    from results import parts
    from results.store import RunStore

    prepare()
    patch.object(parts, "MOST_ROWS", ROWS_OF_A_PART).start()
    row = json.loads(row_text)
    failure = {"score": None, "outcome": "server_crash", "outcome_class": "infrastructure"}
    for kind, before in ROWS_BEFORE.items():
        with RunStore(Path(folder) / kind) as store:
            for number in range(before):
                store.commit({**row, **(failure if kind == "mark" else {}), "job_id": f"j{number}"})
    print("ready", flush=True)
    for line in sys.stdin:
        kind, step = line.split()
        run = Path(folder) / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(Path(folder) / kind, run)
        pid = os.fork()
        if pid == 0:
            with RunStore(run) as store:
                again = {"regrade_of": 1} if kind in MARKING[1:] else {}
                if kind == "outgrown":
                    patch.object(parts, "MOST_PAST_BYTES", 1).start()
                more = {"files": files_column()} if kind == "files" else {}
                die_at_step(int(step), before=True)
                names = {"job_id": "j0" if kind in MARKING else "new", "attempt": 2}
                store.commit({**row, **again, **more, **names}, content_of)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def nursery(folder: str, jobs: str, row_text: str) -> None:
    """For each line it reads, `commits seconds`, runs `sweep` in a child, and kills that so long after so many commits.

    A child of a process that has imported everything begins within milliseconds: that allows many kills. And a parent
    may kill its child at any moment without hitting a stranger: the pid is not free before it has waited.
    """
    prepare()
    for line in sys.stdin:
        commits_before, seconds = line.split()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            sweep(folder, jobs, row_text, step=partial(os.write, writing, b"."))
            os._exit(0)
        os.close(writing)
        for _ in range(int(commits_before) + 1):
            if not os.read(reading, 1):
                break
        else:
            time.sleep(float(seconds))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(reading)
        print("ended", os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    programs: dict[str, Callable[..., None]] = {
        "one_file": one_file,
        "sweep": sweep,
        "relay": relay,
        "commits": commits,
        "nursery": nursery,
    }
    programs[sys.argv[1]](*sys.argv[2:])
