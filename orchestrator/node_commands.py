"""`quantsweep nodes` and `quantsweep cards`: machines as the scheduler sees them, and the cards it knows."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any


def _printed(renderable: Any) -> str:
    """A rich table as text: coloured and as wide as the terminal, or plain and 100 wide elsewhere."""
    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=100, no_color=True)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get().rstrip("\n")


def show_nodes(*, address: str | None, as_json: bool) -> str:
    """The profile of this machine, or of every machine of the cluster at `address`, as a table or as JSON.

    Raises:
        ProfilesError: the override file is not valid.
        ClusterError: the cluster cannot be reached.
    """
    from profiles.probe import probe_node
    from profiles.show import render_nodes, to_json

    failures: dict[str, str] = {}
    if address is None:
        profiles = [probe_node(measure_bandwidth=True)]
    else:
        from orchestrator.cluster import probe_cluster

        profiles, failures = probe_cluster(address)
    for hostname, reason in failures.items():
        sys.stderr.write(f"{hostname} did not say what it has: {reason}\n")
    return json.dumps(to_json(profiles), indent=2) if as_json else _printed(render_nodes(profiles))


def show_cards(word: str | None, *, as_json: bool) -> str:
    """The cards whose name holds `word` (all of them without one).

    Raises:
        ProfilesError: none does; the nearest is named.
    """
    from profiles.catalogue import find_card, load_catalogue, search_cards
    from profiles.show import render_cards

    cards = list(search_cards(word)) if word else list(load_catalogue())
    if not cards and word:
        cards = [find_card(word)]
    if as_json:
        return json.dumps([dataclasses.asdict(card) for card in cards], indent=2)
    return _printed(render_cards(cards))
