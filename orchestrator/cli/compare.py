"""The options of `quantsweep compare`."""

from __future__ import annotations

from typing import Annotated

import typer


def compare(
    first: Annotated[
        str, typer.Argument(metavar="A", help="A run folder, or published:NAME, such as published:go-exams.")
    ],
    second: Annotated[str, typer.Argument(metavar="B", help="What A is held against: likewise.")],
    *,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="OURS=THEIRS", help="A model or cell of A and the one of B it is; may be given again."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Hold two runs against each other, or a run against a published report: what differs, and which is better."""
    from orchestrator import terminal
    from orchestrator.commands.compare import compare as compare_them

    terminal.stdout().page(*compare_them(first, second, given=given or (), as_json=as_json))
