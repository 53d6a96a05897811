"""What the catalogue knows of a model that contradicts a spec: reasoning that cannot be switched as it is asked to."""

from __future__ import annotations

from typing import Final, Literal

from quants.catalogue import find_source

_WHY_NOT: Final[dict[tuple[str, str], str]] = {
    ("none", "on"): "never reasons",
    ("none", "off"): "never reasons",
    ("always", "off"): "always reasons",
    ("effort", "off"): "reasons by effort (low, medium, high), never not at all",
}


def cannot_switch(name: str, source: str, reasoning: Literal["auto", "on", "off"], *, for_all: bool) -> str | None:
    """Why `reasoning` may do nothing to a model, by the catalogue; None where it knows nothing against it.

    Args:
        name: of the model in the spec.
        source: of the model in the spec.
        reasoning: as it is asked for.
        for_all: it is asked of the whole sweep, so that "off" says nothing of a model which never reasons anyway.
    """
    model = find_source(source)
    if model is None or model.reasoning is None:
        return None
    switch = model.reasoning.switch
    why = _WHY_NOT.get((switch, reasoning))
    if why is None or (for_all and switch == "none" and reasoning == "off"):
        return None
    return (
        f'model {name!r}: reasoning = "{reasoning}" may change nothing: {model.name} {why} '
        f"(`quantsweep models {model.name}`)"
    )
