"""Whether what a full buffer kept of an outage is a random sample of it.

An outage brings more readings than the buffer has room for; the survivors say by what rule it made room. Four things
are asked, of two outages together (`judge`), each of which a rule that is not random fails:

- *enough*: the buffer was full, and readings were lost;
- *across*: a tenth of the survivors are from the older half of the outage, and a tenth from the younger;
- *scattered*: they are no few runs of neighbours. Giving up the oldest, the newest, or whatever stands at one fixed
  place leaves one run or two;
- *different*: the second outage leaves other ones than the first. A fixed pattern leaves the same again.

**How often that refuses a truly random rule.** With room for 50 and outages of 100, by two rules: a random place is
overwritten at each reading that finds the buffer full (the survivors of the first 50 are the boxes that stay empty when
50 balls fall into 50), or each reading survives with the same chance (a reservoir). `tests/bench/bench_eviction.py`
draws these two and others, and bounds the probability of a refusal.

Where a program scrapes once a second there is room for 10 and time for 15, in two runs side by side. They are refused
if both leave one run of neighbours. Overwriting does that with 5!/10^5 = 1.2e-3 (each of five places is another one of
the first five), a reservoir with 6/C(15, 10) = 2.0e-3: both runs at once with 4e-6 at most.
"""

from __future__ import annotations

from typing import Final

EDGE_PART: Final = 0.1
SCATTERED: Final = 10
SAME: Final = 46
_SHIFTS: Final = range(-3, 4)


def runs_in(numbers: set[int]) -> int:
    """How many runs of neighbours there are."""
    return sum(number - 1 not in numbers for number in numbers)


def shared(one: set[int], other: set[int]) -> int:
    """How many places of two outages have a survivor in both, at the best shift: a pattern may begin a bit later."""
    return max(len(one & {number + shift for number in other}) for shift in _SHIFTS)


def judge(outages: list[tuple[set[int], int]], size: int, *, quick: bool) -> str:
    """Why the survivors are no random sample; empty if they may be one.

    Args:
        outages: For each the survivors, counted from its first reading as 1, and how many readings it had.
        size: Of the buffer.
        quick: Whether there are two outages of one process, of `plans.QUICK_OUTAGE` readings each.
    """
    for kept, count in outages:
        if len(kept) < 0.8 * size:
            return f"only {len(kept)} of {size} readings survived an outage: nothing can be said about the rest"
        if len(kept) > count - 0.1 * size:
            return f"{len(kept)} of {count} readings survived: nothing was evicted"
    if not quick:
        contiguous = all(runs_in(kept) == 1 for kept, _ in outages)
        return "what survived is one run of neighbours each time: no random ones were evicted" if contiguous else ""
    total = sum(len(kept) for kept, _ in outages)
    older = sum(number <= count / 2 for kept, count in outages for number in kept)
    if older < EDGE_PART * total:
        return f"only {older} of {total} survivors are from the older half of an outage"
    if total - older < EDGE_PART * total:
        return f"only {total - older} of {total} survivors are from the younger half of an outage"
    runs = sum(runs_in(kept) for kept, _ in outages)
    if runs < SCATTERED:
        return f"the survivors of {len(outages)} outages are {runs} runs of neighbours: no random ones were evicted"
    same = shared(outages[0][0], outages[1][0])
    if same >= SAME:
        return f"{same} of {size} survivors are at the same places in both outages: a pattern, and not chance"
    return ""


def spread(kept: list[int]) -> float:
    """The report's measure: the smaller part of the survivors on either side of the middle of their range."""
    if not kept:
        return 0.0
    middle = (min(kept) + max(kept)) / 2
    lower = sum(number <= middle for number in kept)
    return min(lower, len(kept) - lower) / len(kept)
