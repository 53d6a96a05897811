"""Turns what programs did in their boxes into items: tests whose output we compare, or a command that tries a program.

A test of ours is out of the program's reach: it runs alone in its box, and what it printed is compared outside. A
command shares its box with the program that it tries, so what it prints is taken with care: a result that stands there
twice, or none, is none; a command that a signal or a limit ended has no results at all; and with `word` only results
count that bear a word which the command alone was told (docs/exams.md says what that can promise and what not).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from runners import textwork
from runners.exams.base import Item
from runners.exams.folder.results_text import ends_with_word, read_results

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from runners.exams.folder.building import Program
    from runners.exams.folder.settings import Command, OwnTest
    from runners.sandbox.base import Completed, Limits

_TIMEOUTS_ALLOWED: Final = 3
"""A program that hangs in three tests hangs in all."""
_TOGETHER_S: Final = 300.0
_NOTE_CHARS: Final = 200
_SHOWN_CHARS: Final = 2000
_ENV: Final = "/usr/bin/env"


@dataclass(frozen=True)
class Ran:
    """One run: what the log shows, and how it ended; None where it was not run. `expected` is its exit code."""

    line: str
    done: Completed | None
    expected: int = 0


@dataclass(frozen=True)
class Judged:
    """What came of all runs."""

    items: tuple[Item, ...]
    runs: tuple[Ran, ...]


def try_tests(program: Program, tests: Iterable[OwnTest], folder: Path, limits: Limits) -> Judged:
    """Runs the program once for each test, in a box of its own that holds nothing of the others."""
    items: list[Item] = []
    runs: list[Ran] = []
    timeouts, took_s = 0, 0.0
    for number, test in enumerate(tests):
        line = " ".join(["$", "program", *test.args])
        if timeouts >= _TIMEOUTS_ALLOWED or took_s > _TOGETHER_S:
            runs.append(Ran(line, None, test.exit_code))
            items.append(_item(test.name, test.points, "not run: earlier tests took too long"))
            continue
        done = program.run([*program.argv, *test.args], folder / f"test-{number}", limits, test.stdin.encode())
        timeouts += done.status == "time_limit"
        took_s += done.wall_s
        runs.append(Ran(line, done, test.exit_code))
        items.append(_item(test.name, test.points, _why_not(test, done)))
    return Judged(tuple(items), tuple(runs))


def _why_not(test: OwnTest, done: Completed) -> str:
    """Why a test has not passed; empty if it has."""
    if done.exit_code != test.exit_code:
        return _ending(done) + (f" instead of {test.exit_code}" if test.exit_code else "")
    if test.stdout is None:
        return ""
    printed, wanted = _lines(done.stdout), _lines(test.stdout.encode())
    if printed == wanted:
        return ""
    for number, (one, other) in enumerate(zip(printed, wanted, strict=False), start=1):
        if one != other:
            return f"line {number} is {_short(one)} instead of {_short(other)}"
    return f"{len(printed)} lines printed instead of {len(wanted)}"


def _lines(data: bytes) -> list[bytes]:
    """The lines without white space at their ends, nor blank ones at the end of the whole."""
    return [line.rstrip() for line in data.rstrip().split(b"\n")]


def try_command(
    program: Program, command: Command, folder: Path, limits: Limits, words: Mapping[str, Sequence[str]]
) -> Judged:
    """Runs the command once, in a box with the program.

    Args:
        program: What it tries.
        command: The command.
        folder: For its box.
        limits: Of all that runs in it together.
        words: What stands for arguments of the command, such as `{program}`.
    """
    argv = [each for word in command.argv for each in words.get(word, (word,))]
    if not argv[0].startswith("/"):
        argv = [_ENV, *argv]
    word = secrets.token_hex(16) if command.word else ""
    done = program.run(argv, folder / "command", limits, f"{word}\n".encode() if word else b"")
    notes = _notes(command, done, word)
    items = tuple(_item(name, points, notes[name]) for name, points in command.points.items())
    return Judged(items, (Ran(f"$ {' '.join(command.argv)}", done),))


def _notes(command: Command, done: Completed, word: str) -> dict[str, str]:
    """For each item why it has not passed; empty where it has."""
    if done.exit_code is None:  # whoever ended it may have printed what it would have
        return dict.fromkeys(command.points, f"the command did not come to its end: {_ending(done)}")
    printed = done.stdout.decode("utf-8", "replace")
    try:
        if command.output == "exit-code":
            why = _ending(done) if done.exit_code else ""
            if not why and word and not textwork.run(ends_with_word, printed, word):
                why = "the command ended early: the word that it was given is not its last line"
            return dict.fromkeys(command.points, why)
        found = textwork.run(read_results, printed, command.output, word)
    except textwork.TextLimitError as error:
        return dict.fromkeys(command.points, f"what the command printed cannot be read: {error}")
    results: dict[str, list[bool]] = {}
    for name, passed in found:
        results.setdefault(name, []).append(passed)
    return {name: _why_no_result(results.get(name, [])) for name in command.points}


def _why_no_result(results: Sequence[bool]) -> str:
    if len(results) > 1:
        return f"has {len(results)} results, and only one can be the command's"
    if not results:
        return "has no result"
    return "" if results[0] else "not passed"


def _ending(done: Completed) -> str:
    if done.exit_code is not None:
        return f"exit code {done.exit_code}"
    return f"signal {done.signal}" if done.signal is not None else done.status.replace("_", " ")


def _item(name: str, points: float, why_not: str) -> Item:
    return Item(name, 0.0 if why_not else points, points, not why_not, why_not)


def _short(line: bytes) -> str:
    return repr(line[:_NOTE_CHARS].decode("utf-8", "replace"))[:_NOTE_CHARS]


def shown(ran: Ran) -> list[str]:
    """A run as the log shows it."""
    if ran.done is None:
        return [ran.line, "(not run)"]
    lines = [ran.line, f"({_ending(ran.done)}, {ran.done.wall_s:.2f} s)"]
    return lines + [shown_stream(stream) for stream in (ran.done.stdout, ran.done.stderr) if stream.strip()]


def shown_stream(stream: bytes) -> str:
    """What a program wrote, as far as a log shows it."""
    text = stream.decode("utf-8", "replace").rstrip()
    left = len(text) - _SHOWN_CHARS
    return text if left <= 0 else f"{text[:_SHOWN_CHARS]}\n[{left} more characters]"
