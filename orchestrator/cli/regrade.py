"""The options of `quantsweep regrade`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def regrade(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/quickstart.")],
    exam: Annotated[
        str | None,
        typer.Option(
            "--exam",
            metavar="NAME",
            help="This exam's answers only: a name, or the path of an exam's folder. Default: every exam's.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> None:
    """Grade the saved answers of a run again, without a GPU, and say what changed; earlier grades stay on record."""
    from rich.text import Text

    from orchestrator import terminal
    from orchestrator.cli.typed import command
    from orchestrator.errors import EXIT_DONE, EXIT_FAILURES
    from orchestrator.regrade import regrade as grade_again

    err = terminal.stderr()
    again = command("regrade", folder, *(["--exam", exam] if exam else []))
    try:
        report = grade_again(folder, exam=exam, out=err)
    except KeyboardInterrupt:
        err.say("", f"Grades that were made are kept. To go on: {again}")
        raise
    found = [terminal.Json(report.to_json())] if as_json else [Text(line) for line in report.lines()]
    terminal.stdout().page(*found)
    err.say(f"To see the tables: {command('show', folder)}")
    if report.failed:
        err.say(f"Some answers could not be graded here. To try those again: {again}")
    raise typer.Exit(EXIT_FAILURES if report.failed else EXIT_DONE)
