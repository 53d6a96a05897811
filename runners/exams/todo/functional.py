"""Runs the program as the published test did (add, add, list, complete, list, delete, list) and judges each step."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runners import textwork
from runners.exams.programs import ENVIRONMENT
from runners.sandbox.base import BOX, Completed, Limits, Sandbox, View

from .reading import ids_shown, judge_lists

if TYPE_CHECKING:
    from pathlib import Path

    from runners.sandbox.python import PythonRuntime

PROGRAM = "todo.py"
_ENVIRONMENT = ENVIRONMENT | {"HOME": str(BOX / "home")}
# A program that hangs in two steps hangs in all; seven time limits would take a minute of the machine.
_TIMEOUTS_ALLOWED = 2

_OPTIONS_TRIED = 3

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

# How programs are asked for completed todos where `list` shows open ones alone.
_OPTIONS = ("--all", "-a", "--show-all", "--completed", "--done", "all", "completed", "done")
STEP_NAMES = ("add 1", "add 2", "list 1", "complete", "list 2", "delete", "list 3")
_NOTE_CHARS = 300


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


def run_steps(program: bytes, sandbox: Sandbox, runtime: PythonRuntime, workdir: Path, limits: Limits) -> list[Step]:
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
    options = [each for each in _OPTIONS if any(f"{quote}{each}{quote}".encode() in program for quote in "'\"")]
    return _Session(titles_for(program), options, sandbox, runtime.executable, view, box, limits).steps()


Run = tuple[tuple[str, ...], Completed | None]


@dataclass
class _Session:
    titles: tuple[str, str]
    options: list[str]
    sandbox: Sandbox
    executable: str
    view: View
    box: Path
    limits: Limits
    timeouts: int = 0

    def steps(self) -> list[Step]:
        titles = self.titles
        runs = [self._call("add", titles[0]), self._call("add", titles[1]), self._call("list")]
        # Where the list shows no ids, the first two numbers are what most programs would have given.
        done_id, gone_id = _ids_in(_printed(runs[2]), titles) or ("1", "2")
        runs += [self._call("complete", done_id), self._call("list")]
        completed, asked = self._completed(_printed(runs[4]))
        runs += [self._call("delete", gone_id), self._call("list")]
        if asked:
            completed.append(_printed(self._call(*asked)))
        notes = _notes(titles, [_printed(runs[number]) for number in (2, 4, 6)], completed)
        return [_judged(*run, name, note) for run, name, note in zip(runs, STEP_NAMES, notes, strict=True)]

    def _completed(self, printed: str) -> tuple[list[str], tuple[str, ...]]:
        """Where `list` shows the open todo alone: what it prints when asked for the other as well, and how it is asked.

        Empty where it need not be asked, or where no option that the program names makes it show that todo.
        """
        first, second = (title.lower() in printed.lower() for title in self.titles)
        if first or not second:
            return [], ()
        for option in self.options[:_OPTIONS_TRIED]:
            run = self._call("list", option)
            if self.titles[0].lower() in _printed(run).lower():
                return [_printed(run)], run[0]
        return [], ()

    def _call(self, *arguments: str) -> Run:
        if self.timeouts >= _TIMEOUTS_ALLOWED:
            return arguments, None
        done = self.sandbox.run(
            [self.executable, PROGRAM, *arguments],
            workdir=self.box,
            env=_ENVIRONMENT,
            limits=self.limits,
            view=self.view,
        )
        self.timeouts += done.status == "time_limit"
        return arguments, done


def _printed(run: Run) -> str:
    return text_of(run[1].stdout) if run[1] is not None else ""


def _ids_in(output: str, titles: tuple[str, str]) -> list[str] | None:
    """The ids of the two todos in what `list` printed; None where they cannot be told."""
    try:
        return textwork.run(ids_shown, output, titles)
    except textwork.TextLimitError:
        return None


def _notes(titles: tuple[str, str], outputs: list[str], completed: list[str]) -> list[str]:
    """For each step why the state it left is not the one asked for, empty where it is."""
    try:
        return textwork.run(judge_lists, titles, outputs, completed)
    except textwork.TextLimitError as error:
        return [f"the lists cannot be read: {error}"] * len(STEP_NAMES)


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
        return next((line for line in reversed(lines) if "Error" in line), "a traceback")[:_NOTE_CHARS]
    return f"exit code {done.exit_code}" if done.exit_code else done.status.replace("_", " ")
