"""The published rates that predictions begin with, from ``published.toml`` beside this module."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources

from profiles.catalogue import load_catalogue
from quants.speed.observation import Load, Observation, hardware_of_card

GB = 1e9


@cache
def published() -> tuple[Observation, ...]:
    """Every rate of the file, in its order.

    Raises:
        KeyError: a line names a card or a model that is not there (a test reads the file).
    """
    text = resources.files("quants.speed").joinpath("published.toml").read_text(encoding="utf-8")
    content = tomllib.loads(text)
    cards = {card.id: card for card in load_catalogue()}
    found = []
    for report in content["report"]:
        for line in report["lines"].strip().splitlines():
            card_id, name, decode, *prefill = (cell.strip() for cell in line.split("|"))
            card, model = cards[card_id], content["models"][name]
            weight_bytes = model["token_bytes"] * GB
            read_bytes = weight_bytes + model["kv_per_token"] * report["depth"]
            load = Load(
                ideal_s=read_bytes / card.bandwidth_bytes_per_s,
                bits_per_weight=8 * weight_bytes / (model["parameters_active"] * GB),
                moe=model.get("moe", False),
                quant=model["quant"],
                hardware=hardware_of_card(card),
            )
            found.append(Observation(load, float(decode), float(prefill[0]) if prefill else None, report["name"]))
    return tuple(found)
