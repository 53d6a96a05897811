"""How figures are written for people: sizes, points, times, rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def size(count: float | None) -> str:
    """Bytes, decimal as on a disk's label, in two or three figures: `15 GB`, `1.9 MB`; empty for None."""
    if count is None:
        return ""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.1f} {unit}" if value < 9.95 and unit != "B" else f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def money(amount: float, currency: str) -> str:
    """`12.40 USD`, `0.0031 USD`: to the hundredth, and small amounts to two figures."""
    if amount == 0 or amount >= 0.1:
        return f"{amount:,.2f} {currency}"
    return f"{amount:.1g} {currency}" if amount < 1e-6 else f"{amount:.6f}".rstrip("0").ljust(4, "0") + f" {currency}"


def points(value: float | None) -> str:
    """A mean score, to one decimal; empty for None."""
    return "" if value is None else f"{value:.1f}"


def plain(value: float | None) -> str:
    """A score as it was given, without a needless `.0`; empty for None."""
    return "" if value is None else f"{value:.4g}"


def duration(seconds: float | None) -> str:
    """A time in the unit that suits it: `850 us`, `12 ms`, `0.87 s`, `15.8 s`, `183 s`; empty for None."""
    if seconds is None:
        return ""
    if seconds < 0.0995:
        return f"{seconds * 1e6:.0f} us" if seconds < 0.0009995 else f"{seconds * 1e3:.{seconds < 0.00995:d}f} ms"
    return f"{seconds:.{2 if seconds < 9.995 else 1 if seconds < 99.95 else 0}f} s"


def durations(seconds: Sequence[float | None]) -> list[str]:
    """Times of one column, all in the unit that suits them together: `73 ms` above `100 ms`; empty for None."""
    there = [value for value in seconds if value is not None]
    shortest, longest = min(there, default=0.0), max(there, default=0.0)
    if longest < 0.0009995 or not shortest < 0.0995:
        return [duration(value) for value in seconds]  # one unit in any case
    return ["" if value is None else _beside(value, in_ms=longest < 9.9995) for value in seconds]


def _beside(seconds: float, *, in_ms: bool) -> str:
    """A time in the unit of a column that holds shorter and longer ones, short ones to two figures."""
    value, unit = (seconds * 1e3, "ms") if in_ms else (seconds, "s")
    decimals = 0 if value >= (9.95 if in_ms else 99.95) else 1 if value >= (0.995 if in_ms else 9.995) else 2
    if not in_ms and value < 0.0995:
        decimals = 3
    return f"{value:,.{decimals}f} {unit}"


def rate(per_second: float | None) -> str:
    """Tokens a second: `0.42`, `22.1`, `1,510`; empty for None."""
    if per_second is None:
        return ""
    return f"{per_second:,.{2 if per_second < 0.995 else 1 if per_second < 999.5 else 0}f}"


def count(number: int, noun: str) -> str:
    """A number with its noun: `1 seed`, `5 seeds`."""
    return f"{number:,} {plural(number, noun)}"


def plural(number: int, noun: str) -> str:
    """The noun behind a number: `1 seed`, `5 seeds`."""
    return noun if number == 1 else f"{noun}s"


def ranges(numbers: Iterable[int]) -> str:
    """`1-3, 7` for 1, 2, 3 and 7."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][-1] + 1:
            found[-1][1:] = [number]
        else:
            found.append([number])
    return ", ".join("-".join(map(str, each)) for each in found)
