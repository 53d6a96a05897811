"""`quantsweep nodes` and `quantsweep cards`: machines as the scheduler sees them, and the cards it knows."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from orchestrator import terminal

if TYPE_CHECKING:
    from orchestrator.terminal import Part


_AS_SOLD: Final = (
    "memory: as cards are sold, where 1 GB is 1 GiB; `quantsweep fits` calls it GB, and takes off what the driver keeps"
)


def show_nodes(*, address: str | None, as_json: bool) -> list[Part]:
    """The profile of this machine, or of every machine of the cluster at `address`, as a table or as JSON.

    Raises:
        ProfilesError: the override file is not valid.
        ClusterError: the cluster cannot be reached.
    """
    from profiles.probe import probe_node
    from profiles.probe.needs import NEEDS
    from profiles.show import render_nodes, to_json

    remarks: list[str] = []
    needs = tuple(NEEDS)
    if address is None:
        profiles = [probe_node(measure_bandwidth=True, needs=needs)]
    else:
        from orchestrator.cluster import probe_cluster

        profiles, remarks = probe_cluster(address, needs)
    terminal.stderr().say(*remarks)
    return [terminal.Json(to_json(profiles)) if as_json else render_nodes(profiles)]


def show_cards(word: str | None, *, as_json: bool) -> list[Part]:
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
        return [terminal.Json([dataclasses.asdict(card) for card in cards])]
    from rich.text import Text

    return [render_cards(cards), "", Text(_AS_SOLD)]
