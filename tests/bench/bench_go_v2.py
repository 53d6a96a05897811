"""How often truly random eviction is refused by the rules of go-v2 and go-v3 (`runners.exams.go.eviction`).

    python -m tests.bench.bench_go_v2 --eviction 100000

Ends with 1 where more than one draw in 10,000 is refused. Programs are graded by `tests.bench.bench_confusion`.
"""

from __future__ import annotations

import argparse
import random
import sys

from runners.exams.go import eviction
from runners.exams.go_v2 import plans

_MOST_REFUSED = 1e-4


def overwritten(size: int, count: int, chance: random.Random) -> set[int]:
    """What is left of an outage where each reading that finds no room overwrites a random one."""
    kept = list(range(1, size + 1))
    for number in range(size + 1, count + 1):
        kept[chance.randrange(size)] = number
    return set(kept)


def reservoir(size: int, count: int, chance: random.Random) -> set[int]:
    """What is left where each reading has the same chance."""
    return set(chance.sample(range(1, count + 1), size))


def draw(draws: int) -> int:
    """How often truly random eviction is refused."""
    chance = random.Random(9)
    most = 0.0
    for quick, size, count, runs in (
        (True, plans.QUICK_SIZE, plans.QUICK_OUTAGE, 2),
        (False, plans.SLOW_SIZE, plans.SLOW_OUTAGE, 1 + len(plans.AGAIN)),
    ):
        for rule in (overwritten, reservoir):
            drawn = ([(rule(size, count, chance), count) for _ in range(runs)] for _ in range(draws))
            refused = sum(
                bool(eviction.judge(each, size, quick=quick) or (quick and eviction.judge_halves(each)))
                for each in drawn
            )
            most = max(most, refused / draws)
            print(f"{rule.__name__}, {runs} outages of {count}, room for {size}: {refused} of {draws:,} refused")
    return int(most > _MOST_REFUSED)


def main() -> int:
    """Prints a line for each rule and size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--eviction", type=int, default=10_000, metavar="DRAWS")
    return draw(parser.parse_args().eviction)


if __name__ == "__main__":
    sys.exit(main())
