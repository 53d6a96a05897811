"""Whether what a full buffer kept of an outage is a random sample of it.

An outage brings more readings than the buffer has room for; the survivors say by what rule it made room. Four things
are asked, of two outages together (`judge`), each of which a rule that is not random fails:

- *enough*: the buffer was full, and readings were lost;
- *across*: a fifth of the survivors are from the older half of the outage, and a fifth from the younger;
- *scattered*: they are no few runs of neighbours. Giving up the oldest, the newest, or whatever stands at one fixed
  place leaves one run or two;
- *different*: the second outage leaves other ones than the first. A fixed pattern leaves the same again.

**How often that refuses a truly random rule.** With room for 50 and outages of 100, by two rules: a random place is
overwritten at each reading that finds the buffer full, or each reading survives with the same chance (a reservoir).
Drawn 100,000 times (`python -m tests.bench.bench_go_v2 --eviction 100000`), no draw is refused by either: below 3e-5
with 95% (the rule of three). The figures lie far from the limits: survivors of the older halves 36.4, deviation 3.2 (20
are asked for); runs 44.6, deviation 3.6 (24); the same places 30.7, deviation 1.7 (46 are refused).

Where a program scrapes once a second there is room for 10 and time for 15, in six runs side by side. They are refused
if of the first five readings of each (30 together) 8 survive at most, or of the last five, or if each run leaves two
runs of neighbours at most. By convolution of single outages that refuses overwriting with 8.2e-6, a reservoir with
2e-7. Giving up the oldest leaves some 5 of the 30, and not 0: readings come while a flusher holds what it took.
"""

from __future__ import annotations

from typing import Final

EDGE_PART: Final = 0.2
SCATTERED: Final = 24
SAME: Final = 46
FEW: Final = 2
EDGE_SLOW: Final = 8
SCATTERED_HALF: Final = 8
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
        quick: Whether there are two outages of one process, of `plans.QUICK_OUTAGE` readings each; else they are those
            of several, of `plans.SLOW_OUTAGE`.
    """
    for kept, count in outages:
        if len(kept) < 0.8 * size:
            return f"only {len(kept)} of {size} readings survived an outage: nothing can be said about the rest"
        if len(kept) > count - 0.1 * size:
            return f"{len(kept)} of {count} readings survived: nothing was evicted"
    if not quick:
        return _judge_slow(outages, size)
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


def judge_halves(outages: list[tuple[set[int], int]]) -> str:
    """Why the survivors of two outages of 100, with room for 50, are no random sample; empty if they may be one.

    The survivors of either half have to be scattered by themselves: who gives up the oldest whenever another rule lets
    a new one in leaves the older half in one piece. Drawn 50,000 times by either rule, the fewest runs in a half of
    both outages are 12; 8 are asked for.
    """
    for half, name in enumerate(("older", "younger")):
        runs = sum(runs_in({n for n in kept if half < 2 * n / count <= half + 1}) for kept, count in outages)
        if runs < SCATTERED_HALF:
            return f"the survivors of the {name} halves of two outages are {runs} runs of neighbours: a pattern"
    return ""


def _judge_slow(outages: list[tuple[set[int], int]], size: int) -> str:
    """The same of outages that are too small to say much one by one."""
    older = sum(number <= count - size for kept, count in outages for number in kept)
    younger = sum(number > size for kept, _ in outages for number in kept)
    lost = sum(count - size for _, count in outages)
    for many, which in ((older, "first"), (younger, "last")):
        if many <= EDGE_SLOW:
            return (
                f"{many} of the {which} {lost} readings of {len(outages)} outages survived: no random ones were evicted"
            )
    if all(runs_in(kept) <= FEW for kept, _ in outages):
        return "what survived is a run of neighbours or two each time: no random ones were evicted"
    return ""


def spread(kept: list[int]) -> float:
    """The report's measure: the smaller part of the survivors on either side of the middle of their range."""
    if not kept:
        return 0.0
    middle = (min(kept) + max(kept)) / 2
    lower = sum(number <= middle for number in kept)
    return min(lower, len(kept) - lower) / len(kept)
