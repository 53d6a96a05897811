"""Which runs a program gets, and with what sizes: small ones where it scrapes once a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .scenarios import Plan

if TYPE_CHECKING:
    from .mock import Sink

QUICK_SIZE, QUICK_OUTAGE = 50, 100
SLOW_SIZE, SLOW_OUTAGE = 10, 15
AGAIN: Final = ("again 1", "again 2", "again 3", "again 4", "again 5")
"""Further runs of a program that scrapes once a second: little can be said of one outage with room for 10."""
# A vain try to flush moves a reading in many buffers: with many of them in an outage, the oldest given up look random.
RARELY: Final = "1s"
RACE: Final = "race"
"""The run of the program that was built with the race detector."""


def plans(*, quick: bool) -> dict[str, Plan]:
    """The runs by name, the longest first.

    Args:
        quick: The program scrapes every 10 ms; else once a second, where `AGAIN` runs beside the first take the place
            of a second outage.
    """
    size, count = (QUICK_SIZE, QUICK_OUTAGE) if quick else (SLOW_SIZE, SLOW_OUTAGE)
    away: tuple[int, Sink] = (count, "refusing")
    # Long enough for several vain tries of a flusher, each of which may lose something.
    short, room = (80, 100) if quick else (2, size)
    found = [Plan("main", size, (away,) * (2 if quick else 1), size - 2, flush=RARELY, settles=True)]
    if not quick:
        found += [Plan(name, size, (away,), size - 2, settles=True) for name in AGAIN]
    found += [
        Plan("cycles", room, ((short, "refusing"), (short, "dropping"), (short, "refusing")), max(1, short - 2)),
        Plan(RACE, 5, ((25 if quick else 7, "refusing"),) * (3 if quick else 1), 3, flush="20ms", leave="online"),
        Plan("one", 1, ((20 if quick else 6, "refusing"),), 1, settles=True),
        Plan("zero", 0, ((30 if quick else 4, "refusing"),), 0),
        Plan("stop online", size, (), 0, leave="online"),
        Plan("stop offline", min(size, 5), (), 0, leave="offline"),
    ]
    return {plan.name: plan for plan in found}
