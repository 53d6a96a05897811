"""The options of `quantsweep fits`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def fits(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...", help="A file, a folder, hf:owner/name, or a name that `quantsweep models` lists."
        ),
    ],
    *,
    vram: Annotated[
        list[str] | None,
        typer.Option(
            "--vram",
            metavar="GB",
            help="A card by its memory; may be given again. 2x24 or 24+16: one machine with two cards.",
        ),
    ] = None,
    card: Annotated[
        list[str] | None,
        typer.Option("--card", metavar="NAME", help="A card by name (see `quantsweep cards`); may be given again."),
    ] = None,
    here: Annotated[
        bool, typer.Option("--here", help="The devices of this machine; the default if no card is named.")
    ] = False,
    context: Annotated[
        int | None,
        typer.Option("--context", help="Tokens for each slot. Default: 16384, or what the model was trained on."),
    ] = None,
    cache_type_k: Annotated[str, typer.Option("--cache-type-k", help="Type of the K cache.")] = "f16",
    cache_type_v: Annotated[str, typer.Option("--cache-type-v", help="Type of the V cache.")] = "f16",
    slots: Annotated[int, typer.Option("--slots", help="Requests served at once.")] = 1,
    offload: Annotated[
        bool, typer.Option("--offload", help="Also look for placements with part of the model in host memory.")
    ] = False,
    measured: Annotated[
        list[Path] | None,
        typer.Option("--measured", metavar="RUN", help="A run that predicted rates learn from; may be given again."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show which quants fit which cards, how much is left, and at what context; only headers are read."""
    from orchestrator import terminal
    from orchestrator.commands.fits import show_fits
    from quants.fit.rows import FitsSettings

    settings = FitsSettings(
        context=context,
        slots=slots,
        cache_type_k=cache_type_k.lower(),
        cache_type_v=cache_type_v.lower(),
        offload=offload,
    )
    answer = show_fits(
        sources,
        vram=vram or (),
        cards=card or (),
        here=here,
        settings=settings,
        measured=measured or (),
        as_json=as_json,
    )
    if as_json:
        terminal.stdout().page(*answer.parts)
        terminal.stderr().say(*answer.notes)
        return
    from rich.text import Text

    terminal.stdout().page(*answer.parts, *(Text(note) for note in answer.notes))
