"""How amounts of memory are written in a sentence, so that its figures add up for whoever checks them."""

from __future__ import annotations

from typing import Final

GIB: Final = 1024**3
MIB: Final = 1024**2


def amounts(decisive: int, *others: int) -> tuple[str, ...]:
    """Bytes as text: `decisive` first, without its sign, then `others`, all in the unit that shows the first one.

    What is missing may be little beside what is needed, and is never written as nothing: GiB or MiB to one decimal,
    single bytes below.
    """
    least = abs(decisive)
    sizes = (least, *others)
    if least >= GIB:
        return tuple(f"{each / GIB:,.1f} GiB" for each in sizes)
    if least >= MIB or not least:
        return tuple(f"{each / MIB:,.1f} MiB" for each in sizes)
    return tuple(f"{each:,} bytes" for each in sizes)


def amount(size_bytes: int) -> str:
    """One amount, without its sign: `1.5 GiB`, `41.6 MiB`, `12 bytes`."""
    return amounts(size_bytes)[0]
