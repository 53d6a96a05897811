"""Runs the program as the published test did (add, add, list, complete, list, delete, list) and judges each step."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runners.exams.todo.listing import Entry, find_entries, is_same, pick_ids, settled
from runners.sandbox.base import BOX, MIB, Completed, Limits, Sandbox, View

if TYPE_CHECKING:
    from pathlib import Path

    from runners.sandbox.python import PythonRuntime

PROGRAM = "todo.py"
STEP_LIMITS = Limits(
    wall_s=10.0,
    cpu_s=5.0,
    memory_bytes=256 * MIB,
    output_bytes=256 * 1024,
    file_bytes=16 * MIB,
    processes=16,
    files=500,
    address_space_bytes=1024 * MIB,
)
ENVIRONMENT = {
    "HOME": str(BOX / "home"),
    "PATH": "/usr/bin:/bin",
    "USER": "sandbox",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "TERM": "dumb",
    "COLUMNS": "120",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONNOUSERSITE": "1",
}
# A program that hangs in two steps hangs in all; seven time limits would take a minute of the machine.
_TIMEOUTS_ALLOWED = 2

_VERBS = ("Buy", "Wash", "Paint", "Order", "Repair", "Clean", "Collect", "Water", "Sort", "Return", "Label", "Polish")
_THINGS = (
    "apples",
    "curtains",
    "fence",
    "stamps",
    "bicycle",
    "windows",
    "parcel",
    "plants",
    "letters",
    "ladder",
    "jars",
)


@dataclass(frozen=True)
class Step:
    """One of the seven.

    Attributes:
        name: `add 1`, `list 2` and so on.
        arguments: What the program was called with.
        done: How it ended; None where it was not run because earlier steps had hung.
        published: Exit code 0 and no traceback.
        strict: That, and the state it should have left.
        note: Why strict says no; empty otherwise.
    """

    name: str
    arguments: tuple[str, ...]
    done: Completed | None
    published: bool
    strict: bool
    note: str = ""

    def counts(self, scoring: str) -> bool:
        """Whether the step has its points under `scoring`."""
        return self.strict if scoring == "strict" else self.published

    def note_for(self, scoring: str) -> str:
        """What to say about it under `scoring`."""
        return self.note if scoring == "strict" or not self.published else ""


def titles_for(program: bytes) -> tuple[str, str]:
    """The two todos that `program` is asked to keep: the same for equal programs, and not to be foreseen by one."""
    digest = hashlib.sha256(program).digest()
    one, other = digest[0] % len(_VERBS), digest[1] % (len(_VERBS) - 1)
    other += other >= one
    thing, another = digest[2] % len(_THINGS), digest[3] % (len(_THINGS) - 1)
    another += another >= thing
    return f"{_VERBS[one]} {_THINGS[thing]}", f"{_VERBS[other]} {_THINGS[another]}"


def run_steps(
    program: bytes, sandbox: Sandbox, runtime: PythonRuntime, workdir: Path, limits: Limits = STEP_LIMITS
) -> list[Step]:
    """Call the program seven times, each in a sandbox of its own, with the same folder and home, fresh at first.

    The program lies in that folder, because many keep their data beside it, and is put there anew and read-only for
    each call: one that rewrites itself is not what the model answered.

    Raises:
        SandboxFailed: A sandbox could not be started.
    """
    box = workdir / "box"
    (box / "home").mkdir(parents=True)
    answer = workdir / PROGRAM
    answer.write_bytes(program)
    view = replace(runtime.view, placed=((answer, BOX / PROGRAM),))
    return _Session(titles_for(program), sandbox, runtime.executable, view, box, limits).steps()


Run = tuple[tuple[str, ...], Completed | None]


@dataclass
class _Session:
    titles: tuple[str, str]
    sandbox: Sandbox
    executable: str
    view: View
    box: Path
    limits: Limits
    timeouts: int = 0

    def steps(self) -> list[Step]:
        titles = self.titles
        runs = [self._call("add", titles[0]), self._call("add", titles[1]), self._call("list")]
        before = _Shown.by(runs[2], titles)
        # Where the list shows no ids, the first two numbers are what most programs would have given.
        done_id, gone_id = before.ids or ("1", "2")
        runs += [self._call("complete", done_id), self._call("list")]
        between = _Shown.by(runs[4], titles)
        runs += [self._call("delete", gone_id), self._call("list")]
        notes = _strict_notes(titles, before, between, _Shown.by(runs[6], titles))
        return [_judged(*run, *note) for run, note in zip(runs, notes, strict=True)]

    def _call(self, *arguments: str) -> Run:
        if self.timeouts >= _TIMEOUTS_ALLOWED:
            return arguments, None
        done = self.sandbox.run(
            [self.executable, PROGRAM, *arguments],
            workdir=self.box,
            env=ENVIRONMENT,
            limits=self.limits,
            view=self.view,
        )
        self.timeouts += done.status == "time_limit"
        return arguments, done


@dataclass(frozen=True)
class _Shown:
    """What one `list` showed of the two todos, and the ids that tell them apart."""

    output: str
    entries: dict[str, Entry]
    ids: tuple[str, str] | None

    @classmethod
    def by(cls, run: Run, titles: tuple[str, str]) -> _Shown:
        output = text_of(run[1].stdout) if run[1] is not None else ""
        entries = find_entries(output, titles)
        ids = pick_ids(entries[titles[0]], entries[titles[1]]) if len(entries) == len(titles) else None
        return cls(output, entries, ids)

    def lacks(self, *titles: str) -> str:
        """The sentence that says which of `titles` are not there; empty if all are."""
        absent = [repr(title) for title in titles if title not in self.entries]
        return f"the list does not show {' and '.join(absent)}" if absent else ""


def _strict_notes(
    titles: tuple[str, str], before: _Shown, between: _Shown, after: _Shown
) -> tuple[tuple[str, str], ...]:
    """For each step its name, and why the state it left is not the one asked for; empty where it is."""
    first, second = titles
    no_ids = "" if before.ids else "the list shows no ids to tell the two apart"
    return (
        ("add 1", before.lacks(first)),
        ("add 2", before.lacks(second)),
        ("list 1", before.lacks(*titles) or no_ids),
        ("complete", _why_not_completed(titles, before, between)),
        ("list 2", between.lacks(*titles)),
        ("delete", between.lacks(second) or _why_not_deleted(titles, after)),
        ("list 3", after.lacks(first) or _why_not_kept(first, between, after)),
    )


def _why_not_completed(titles: tuple[str, str], before: _Shown, between: _Shown) -> str:
    """The mark may be in the entry or in a heading above it, so the whole list must differ, but not the other entry."""
    first, second = titles
    missing = before.lacks(*titles) or between.lacks(*titles)
    if missing:
        return missing
    if not is_same(before.entries[second], between.entries[second]):
        return f"{second!r} was changed as well"
    if settled(before.output) == settled(between.output):
        return f"the list shows {first!r} as before"
    return ""


def _why_not_deleted(titles: tuple[str, str], after: _Shown) -> str:
    first, second = titles
    if second in after.entries:
        return f"{second!r} is still listed"
    return "" if first in after.entries else f"{first!r} is gone as well"


def _why_not_kept(first: str, between: _Shown, after: _Shown) -> str:
    """Deleting one must not undo that the other is completed."""
    missing = between.lacks(first)
    if missing:
        return missing
    return "" if is_same(between.entries[first], after.entries[first]) else f"{first!r} is not as it was"


def text_of(data: bytes) -> str:
    """What a program wrote, as text whatever it is."""
    return data.decode("utf-8", "replace")


def has_traceback(done: Completed) -> bool:
    """Whether Python's own words for an uncaught exception came out."""
    return b"Traceback (most recent call last)" in done.stdout + done.stderr


def _judged(arguments: tuple[str, ...], done: Completed | None, name: str, note: str) -> Step:
    if done is None:
        return Step(name, arguments, None, published=False, strict=False, note="not run: earlier steps did not end")
    published = done.status == "ok" and not has_traceback(done)
    return Step(
        name,
        arguments,
        done,
        published=published,
        strict=published and not note,
        note=note if published else _ending(done),
    )


def _ending(done: Completed) -> str:
    """How a call that counts for nothing ended."""
    if has_traceback(done):
        lines = text_of(done.stderr + b"\n" + done.stdout).strip().splitlines()
        return next((line for line in reversed(lines) if "Error" in line), "a traceback")
    return f"exit code {done.exit_code}" if done.exit_code else done.status.replace("_", " ")
