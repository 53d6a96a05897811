"""`quantsweep nodes`: this machine as the scheduler sees it."""

from __future__ import annotations

import json


def show_nodes(*, as_json: bool) -> str:
    """The profile of this machine, as a table or as JSON."""
    from profiles.probe import probe_node
    from profiles.show import render_nodes

    profile = probe_node()
    if as_json:
        return json.dumps([profile.to_dict()], indent=2) + "\n"
    from rich.console import Console

    console = Console()
    with console.capture() as capture:
        console.print(render_nodes([profile]))
    return capture.get()
