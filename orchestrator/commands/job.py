"""`quantsweep show RUN --job ID`: one job with its reply, grade, timings, machine, files and earlier attempts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from orchestrator import terminal
from orchestrator.rundir import RunDir
from profiles.bus import is_impossible, utilisation
from results.answer import cell_name, exam_name
from results.failures import items_of
from results.figures import count, duration, plain, rate, size
from results.files import RunFiles, named_files
from results.jobs import job_rows
from results.rows import SchemaError
from results.schema import COLUMNS_BY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from orchestrator.terminal import Part

Row = dict[str, Any]

_MOST_LINES: Final = 1_000
"""Of a text: a program of a thousand lines is shown whole, of a longer one its beginning and its end."""
_FEW_LINES: Final = 40
"""Of reasoning, and of a turn before the last."""
_TEXT_CHARS: Final = 1 << 20
_NAME_CHARS: Final = 40
_NOTE_CHARS: Final = 500

_TIMES: Final = ("load_s", "ttft_any_s", "ttft_answer_s", "e2e_s", "grade_s")
_RATES: Final = ("prefill_tps", "decode_tps", "decode_tps_client")
_COUNTS: Final = ("prompt_tokens", "cached_tokens", "reasoning_tokens", "answer_tokens", "turns")
_PLACE: Final = (
    *("node", "device", "hardware_class", "os", "cpu", "driver", "engine", "engine_build", "provider"),
    *("isolation", "extraction", "finish_reason"),
)
_VERSIONS: Final = ("prompt_version", "grader_version", "quantsweep_version")


def job_of_run(root: Path, beginning: str, *, as_json: bool) -> list[Part]:
    """The job of the run in `root` whose id begins so: its final attempt, or else its latest, and the others in short.

    Raises:
        RunFolderError: this is no run folder.
        StoreError: there is no such job, or more than one.
    """
    RunDir(root).require()
    rows = job_rows(root, beginning)
    if as_json:
        return [terminal.Json({"job_id": rows[0]["job_id"], "attempts": [_json(row) for row in rows]})]
    row = next((row for row in rows if row["final"]), rows[-1])
    others = [each for each in rows if each is not row]
    parts = [*_heading(row), "", *_grade(row)]
    parts += [*_named("Timings", _timings(row)), *_named("Where", _texts(row, (*_PLACE, *_VERSIONS)))]
    parts += [*_files(row, root), *_attempts(others)]
    for title, name, most in (
        ("Grader's log", "grader_log", _MOST_LINES),
        ("Reasoning", "reasoning", _FEW_LINES),
        *([] if row["transcript"] else [("Reply", "reply", _MOST_LINES)]),
    ):
        parts += _block(title, row[name], most)
    return _without_end([*parts, *_turns(row["transcript"])])


def _json(row: Row) -> Row:
    """A row with its JSON columns as what they hold; what does not read as JSON stays text."""
    found: Row = {}
    for name, value in row.items():
        if COLUMNS_BY_NAME[name].type == "json" and value is not None:
            try:
                found[name] = json.loads(value)
            except (ValueError, RecursionError):
                found[name] = value
        else:
            found[name] = value.isoformat() if COLUMNS_BY_NAME[name].type == "timestamp" and value else value
    return found


def _heading(row: Row) -> Iterator[Part]:
    cell = cell_name(row["model"], row["variant"], row["quant"])
    yield f"{cell} on {exam_name(row['exam'], row['task'])}, seed {row['seed']}"
    standing = "" if row["final"] else ", taken out of the sweep" if row["taken_out"] else ", not final"
    yield f"job {row['job_id']}, attempt {row['attempt']}{standing}"
    points = "no score" if row["score"] is None else f"{plain(row['score'])} of {_plain(row['score_max'])}"
    scoring = f", {row['scoring']} scoring" if row["scoring"] else ""
    yield f"{row['outcome']} ({row['outcome_class']}): {points}{scoring}"
    if row["error"]:
        yield f"error: {row['error']}"


def _plain(number: float | None) -> str:
    return "?" if number is None else plain(number)


def _grade(row: Row) -> Iterator[Part]:
    """A line an item: whether it was lost, its points, its name, and what the grader said of it."""
    from rich.text import Text

    items = items_of(row["grade_items"])
    if not items:
        return
    amounts = [f"{plain(item.points)} of {plain(item.points_max)}" for item in items]
    width = max(map(len, amounts))
    yield Text("Items", style="bold")
    for item, amount in zip(items, amounts, strict=True):
        note = f": {terminal.line(item.note, _NOTE_CHARS)}" if item.note else ""
        yield f"  {'lost' if item.is_lost else 'ok':<4}  {amount:>{width}}  {item.name}{note}"
    yield ""


def _timings(row: Row) -> list[tuple[str, str]]:
    found = [(name, duration(row[name])) for name in _TIMES if row[name] is not None]
    found += [(name, f"{rate(row[name])} tok/s") for name in _RATES if row[name] is not None]
    if (share := utilisation(row["decode_tps"], row["decode_ceiling_tps"])) is not None:
        impossible = is_impossible(row["decode_tps"], row["decode_ceiling_tps"])
        said = ": impossible, so the rate or the bandwidth that is known is wrong" if impossible else ""
        found.append(("of what the memory bus allows", f"{share:.0%}{said}"))
    found += [(name, f"{row[name]:,}") for name in _COUNTS if row[name] is not None]
    found += [(name, size(row[name])) for name in ("peak_ram_bytes", "peak_vram_bytes") if row[name] is not None]
    share = row["foreign_cpu_share"]
    return found if share is None else [*found, ("foreign_cpu_share", f"{share:.0%}")]


def _texts(row: Row, names: Sequence[str]) -> list[tuple[str, str]]:
    return [(name, f"{row[name]}") for name in names if row[name] not in {None, ""}]


def _named(title: str, found: Sequence[tuple[str, str]]) -> Iterator[Part]:
    """Names with what they stand for, a line each."""
    from rich.text import Text

    if found:
        yield Text(title, style="bold")
        width = min(max(len(name) for name, _ in found), _NAME_CHARS)
        for name, text in found:
            yield f"  {name:<{width}}  {text}"
        yield ""


def _files(row: Row, root: Path) -> Iterator[Part]:
    try:
        files = named_files(row["files"])
    except SchemaError as error:
        yield from _named("Files", [("unreadable", str(error))])
        return
    kept = RunFiles(root)
    lines = []
    for file in files:
        there = "" if kept.read(file.sha256) is not None else ": gone, or changed"
        lines.append((file.name, f"{kept.folder / file.sha256} ({file.media_type}, {size(file.bytes)}){there}"))
    yield from _named("Files", lines)


def _attempts(others: Sequence[Row]) -> Iterator[Part]:
    lines = []
    for row in others:
        points = "no score" if row["score"] is None else f"{plain(row['score'])} of {_plain(row['score_max'])}"
        regrade = "" if row["regrade_of"] is None else f", a new grade of attempt {row['regrade_of']}"
        error = "" if not row["error"] else f": {terminal.line(row['error'], 200)}"
        how = f"{row['outcome']} ({row['outcome_class']}), {points}, grader {row['grader_version']}"
        lines.append((f"attempt {row['attempt']}", f"{how}, on {row['node']}{regrade}{error}"))
    yield from _named("Other attempts", lines)


def _block(title: str, text: str | None, most: int) -> Iterator[Part]:
    """A text of somebody else's line by line, each behind a mark, so that none passes for one of ours."""
    if not text:
        return
    lines = text[:_TEXT_CHARS].split("\n")
    left_out = text.count("\n", _TEXT_CHARS) if len(text) > _TEXT_CHARS else 0
    yield f"{title} ({count(len(lines) + left_out, 'line')}, {count(len(text), 'character')})"
    begin, end = lines, lines[:0]
    if len(lines) > most:
        begin, end = lines[: most * 3 // 4], lines[len(lines) - most // 4 :]
    for each in begin:
        yield f"  | {each}"
    if end or left_out:
        yield f"  ... ({len(lines) - len(begin) - len(end) + left_out:,} lines left out; --json has all)"
    for each in end:
        yield f"  | {each}"
    yield ""


def _turns(text: str | None) -> Iterator[Part]:
    """What was said in several turns."""
    if not text:
        return
    try:
        turns = json.loads(text)
    except (ValueError, RecursionError):
        yield from _block("Transcript", text, _MOST_LINES)
        return
    messages = turns if isinstance(turns, list) else [turns]
    for number, message in enumerate(messages, 1):
        last = number == len(messages)
        yield from _block(f"Turn {number}: {_role(message)}", _said(message), _MOST_LINES if last else _FEW_LINES)


def _role(message: Any) -> str:
    return terminal.line(str(message.get("role", "?")), 40) if isinstance(message, dict) else "?"


def _said(message: Any) -> str:
    """The content of a message, with its tool calls; all of it where it is built otherwise."""
    if not isinstance(message, dict) or not isinstance(message.get("content"), str):
        return json.dumps(message, indent=1, ensure_ascii=False)
    rest: Mapping[str, Any] = {key: value for key, value in message.items() if key not in {"role", "content"} and value}
    calls = "\n" + json.dumps(rest, indent=1, ensure_ascii=False) if rest else ""
    return f"{message['content']}{calls}"


def _without_end(parts: list[Part]) -> list[Part]:
    return parts[:-1] if parts and parts[-1] == "" else parts
