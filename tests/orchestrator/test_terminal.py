"""The exit to the terminal: what foreign text looks like behind it, and streams that do not take everything."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from orchestrator.file_names import MOST_BYTES, log_name, safe_name
from orchestrator.progress import LiveProgress, Tally
from orchestrator.terminal import Json, Printer, ReaderGoneError, block, guard, inert, line
from orchestrator.terminal.guard import GuardedStream

STEERS = "\x1b[2J\x1b]0;t\x07\x9b31m\x7f\x08\r\n\t\u202e\u2066\u2069\u200b\u200d\ufeff\u2028\u2029\x85\xad\ud800"
HOSTILE = f"a{STEERS}e[/][red]:x:"
FULL = Path("/dev/full")
NEVER = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def seen(text: str) -> bool:
    return not [char for char in text if unicodedata.category(char) in NEVER]


def test_what_is_inert_is_read_as_it_was() -> None:
    for text in ("Qwen3-8B", "Größe 日本語 Ελληνικά नमस्ते ที่", "[bold]x[/] :smile: 100% {}", "👍 → ─"):
        assert inert(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\r\nc\td\x85e\u2028f", "a b  c d e f"),
        ("\x1b[31mred\x9b0m", "\ufffd[31mred\ufffd0m"),
        ("user\u202ecod.exe\u2066\u2069", "user\ufffdcod.exe\ufffd\ufffd"),
        ("Q4\u200b_K\u2060\ufeff\u00ad", "Q4\ufffd_K\ufffd\ufffd\ufffd"),
        ("\udc9b\ud800", "\ufffd\ufffd"),
        ("e\u0301 " + "x" + "\u0336" * 9, "e\u0301 x" + "\u0336" * 4 + "\ufffd" * 5),
        ("\u0338over", "\ufffdover"),
        ("\u3164\u2800\u034f\ufe0f", "\ufffd" * 4),
    ],
)
def test_what_steers_or_hides_is_replaced(text: str, shown: str) -> None:
    assert inert(text) == shown


@given(st.text(st.characters(codec=None)))
def test_no_text_steers(text: str) -> None:
    assert len(inert(text)) == len(text)
    assert seen(inert(text))
    assert inert(inert(text)) == inert(text)
    assert block(text).count("\n") == text.count("\n")


@given(st.recursive(st.text(st.characters(codec=None)) | st.integers() | st.none(), st.lists), st.booleans())
def test_json_is_inert_and_says_the_same(value: Any, ascii_only: bool) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="latin-1" if ascii_only else "utf-8")
    text = Printer(file).text_of(Json({"x": value}))
    assert seen(text.replace("\n", ""))
    assert json.loads(text) == {"x": value}
    text.encode("ascii" if ascii_only else "utf-8")


def test_an_overlong_line_keeps_its_beginning_and_its_end() -> None:
    shown = line("begin" + "x" * 100_000 + "end")
    assert shown.startswith("begin")
    assert shown.endswith("end")
    assert "98,008 characters left out" in shown
    assert len(shown) < 2100


def printed(*parts: Any, **how: Any) -> str:
    return Printer(None).text_of(*parts, **how)


def test_a_table_takes_foreign_text_wherever_it_takes_text() -> None:
    table = Table(HOSTILE, title=HOSTILE, caption=HOSTILE)
    table.add_column(HOSTILE, footer=HOSTILE)
    table.add_row(HOSTILE, "plain", style="bold red")
    table.add_section()
    table.add_row("plain", HOSTILE)
    text = printed(table, width=300)
    assert seen(text.replace("\n", ""))
    assert "[/][red]:x:" in text
    assert len(text.splitlines()) == len(["title", "top", "header", "rule", "row", "rule", "row", "bottom", "caption"])
    table.add_row(Text(HOSTILE, style="red"), Text("plain"))
    assert seen(printed(table, width=30).replace("\n", ""))
    assert not printed(Text("x", style="link https://evil.example"), colour=True).count("evil")


def test_no_text_floods_the_terminal() -> None:
    table = Table("name")
    table.add_row("x" * 1_000_000)
    assert len(printed(table, Text("y" * 1_000_000), "z" * 1_000_000)) < 20_000


def test_a_line_is_a_line_whatever_it_holds() -> None:
    out = io.StringIO()
    Printer(out).say("one\ntwo", HOSTILE)
    Printer(out).page("three\nfour", Text("five\nsix"))
    Printer(out).complain("it broke\nerror: fake", "do\nthis", *map(str, range(500)))
    lines = out.getvalue().splitlines()
    assert lines[0] == "one two"
    assert lines[2:6] == ["three four", "five six", "error: it broke error: fake", "  do this"]
    assert lines[-1] == "  ... and 301 more"
    assert seen(out.getvalue().replace("\n", ""))


def test_the_live_view_takes_foreign_text(tmp_path: Path) -> None:
    """In a real terminal, with `[/]` in an architecture's name, which rich's markup takes for an error."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as file:
        printer = Printer(file)
        assert printer.is_terminal
        view = LiveProgress(Tally(3, 1), printer)
        before = sys.stdout, sys.stderr
        with printer.live(view):
            view.started("L1", "node", "dev\x1b[2J", f"[red]{HOSTILE}[/]")
            view.say("lease L1 failed: unknown model architecture: '[/]\x1b]0;t\x07'")
            print("\x1b[2Jprinted [/] past the exit")
            sys.stderr.write("\x1b]52;c;aGk=\x07half a ")
            sys.stderr.write("line\n")
        assert (sys.stdout, sys.stderr) == before
    shown = read(ours)
    assert "unknown model architecture: '[/]\ufffd]0;t\ufffd'" in shown
    assert "\ufffd[2Jprinted [/] past the exit" in shown
    assert "\ufffd]52;c;aGk=\ufffdhalf a line" in shown
    for sequence in ("\x1b[2J", "\x1b]", "\x07", "\x9b", "\u202e"):
        assert sequence not in shown


def test_a_terminal_may_be_closed_while_a_sweep_runs() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as file:
        printer = Printer(file)
        view = LiveProgress(Tally(3, 1), printer)
        with printer.live(view):
            os.close(ours)
            view.started("L1", "node", "cpu", "m Q8_0")
            view.say("nobody sees this, and the sweep goes on")


def read(descriptor: int) -> str:
    """What was written to a pseudo-terminal until its other end was closed."""
    data = b""
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # Linux says EIO when the other end is closed
            piece = b""
        if not piece:
            os.close(descriptor)
            return data.decode()
        data += piece


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_stream_that_lacks_the_characters_gets_escapes(encoding: str) -> None:
    raw = io.BytesIO()
    printer = Printer(io.TextIOWrapper(raw, encoding=encoding))
    table = Table("ä", "日本")
    table.add_row("→", HOSTILE)
    printer.page("Größe 日本", table)
    printer.say(HOSTILE)
    assert "Gr" in raw.getvalue().decode(encoding)


def test_nobody_reads() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as file:
        Printer(file).say("progress is not worth an error")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as file, pytest.raises(ReaderGoneError):
        Printer(file, must_arrive=True).page("x" * 100_000)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as file:
        print("what libraries say is not worth an error either", file=GuardedStream(file))
    closed = io.StringIO()
    closed.close()
    Printer(closed).say("nothing")
    Printer(None, must_arrive=True).page("nothing")


def test_what_is_written_past_the_exit_is_inert_too(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", None)
    guard()
    guard()
    print(HOSTILE, file=sys.stdout)
    print("nowhere", file=sys.stderr)
    sys.stderr.flush()
    assert isinstance(sys.stdout, GuardedStream)
    assert sys.stdout.stream is out
    assert not hasattr(sys.stdout, "buffer")
    with pytest.raises(TypeError):
        sys.stdout.write(b"bytes")  # type: ignore[arg-type]  # the mistake that is tried
    assert out.buffer.getvalue().count(b"\n") == HOSTILE.count("\n") + 1
    assert b"\x1b" not in out.buffer.getvalue()


# -- names of files


@pytest.mark.parametrize("text", ["stand-in Q4_K_M", "a.b_c+d", "Qwen3-8B UD-Q4_K_XL"])
def test_a_sound_label_stays_readable_as_a_name(text: str) -> None:
    assert safe_name(text) == text.replace(" ", "-")
    assert log_name("L1", "Qwen3-8B (nothink) UD-Q4_K_XL") == "L1-Qwen3-8B-nothink-UD-Q4_K_XL.log"


@pytest.mark.parametrize(
    "text", ["", ".", "..", "../../etc/passwd", "/abs", "-rf", ".hidden", "a/b", "a\0b", HOSTILE, "ü" * 300, "x" * 999]
)
def test_no_text_leads_out_of_the_folder(tmp_path: Path, text: str) -> None:
    name = log_name("L1", text)
    assert (tmp_path / name).parent == tmp_path
    (tmp_path / name).write_text("log")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    name = safe_name(text)
    assert name[0] not in ".-"
    assert len(name.encode()) <= MOST_BYTES
    assert name.isascii()


@given(st.text(st.characters(codec=None)), st.text(st.characters(codec=None)))
def test_different_labels_keep_different_names(one: str, other: str) -> None:
    if one.replace(" ", "-") != other.replace(" ", "-"):
        assert safe_name(one) != safe_name(other)


# -- the program


def quantsweep(*arguments: str, **how: Any) -> subprocess.CompletedProcess[bytes]:
    how.setdefault("stdout", subprocess.PIPE)
    environment = {**os.environ, **how.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        stderr=subprocess.PIPE,
        timeout=120,
        check=False,
        env=environment,
        **how,
    )


@pytest.mark.parametrize("argument", ["--\x1b[31mx\nerror: fake", "\x1b]0;t\x07", "\u202e"])
def test_usage_errors_are_inert(argument: str) -> None:
    done = quantsweep(argument)
    assert done.returncode == 2
    text = done.stderr.decode()
    assert text.splitlines()[0].startswith("Usage: quantsweep")
    assert text.splitlines()[-1].startswith("error: No such ")
    assert seen(text.replace("\n", ""))


def test_a_missing_argument_names_it() -> None:
    done = quantsweep("run")
    assert done.returncode == 2
    assert b"try 'quantsweep run --help' for help.\nerror: missing argument 'spec'" in done.stderr.lower()


@pytest.mark.parametrize(
    "env", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "latin-1"}]
)
def test_any_locale_does(env: dict[str, str]) -> None:
    done = quantsweep("cards", "5090", env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"rtx-5090" in done.stdout
    done = quantsweep("plan", "gr\u00f6\u00dfe\u65e5", env=env)
    assert done.returncode == 2
    assert b"there is no file" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_reader_that_has_enough_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    for arguments in (["cards"], ["--help"], ["cards", "--json"]):
        done = quantsweep(*arguments, stdout=writer)
        assert (done.returncode, done.stderr) == (0, b"")
    os.close(writer)


def test_a_closed_stream_is_no_traceback() -> None:
    for redirection in (">&-", "2>&-", ">&- 2>&-", "<&-"):
        command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "orchestrator", "cards", "5090"]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_said() -> None:
    with FULL.open("w") as full:
        done = quantsweep("cards", stdout=full)
    assert done.returncode == 2
    assert done.stderr == b"error: the answer cannot be written to standard output: No space left on device\n"
