"""How far predicted rates are from measured ones, before and after one row of the same hardware.

    python -m tests.bench.bench_predict                 the published rates, each left out in turn
    python -m tests.bench.bench_predict RUN...          cells of runs, as `show --predicted` has them

Of the published rates each is predicted from those of other cards in other reports alone ("before"), and then with one
other rate of the same card and report, as a person has who measured one model on his machine ("after"). The sizes of
the predictor's deviations were set by hand with these very rates in view, so the figures are a little too good; beside
them stands what one constant share of the bus does under the same conditions, which is all that most tools have.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from quants.speed.history import published
from quants.speed.predictor import Predictor, Rate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quants.speed.observation import Observation


class Tally:
    """Errors of predictions, and how often the interval held."""

    def __init__(self) -> None:
        self.errors: list[float] = []
        self.held = 0
        self.widths: list[float] = []

    def add(self, rate: Rate, measured: float) -> None:
        """One prediction beside what was measured."""
        self.errors.append(abs(rate.tps / measured - 1))
        self.held += rate.low <= measured <= rate.high
        self.widths.append((rate.high - rate.low) / 2 / rate.tps)

    def line(self, name: str) -> str:
        """Its figures."""
        if not self.errors:
            return f"{name:<36} none"
        ordered = sorted(self.errors)
        return (
            f"{name:<36}{len(ordered):>5}{median(ordered):>9.1%}{ordered[int(0.9 * len(ordered))]:>9.1%}"
            f"{self.held / len(ordered):>9.0%}{median(self.widths):>9.0%}"
        )


def constant(rates: Sequence[Observation]) -> float:
    """The median share of the bus that `rates` have."""
    return median(each.decode_tps * each.load.ideal_s for each in rates)


def of_published() -> None:
    """Leave one out, by card and report."""
    known = published()
    names = (
        "decode, before",
        "decode, after one row",
        "of these, both dense",
        "prefill, before",
        "prefill, after one row",
    )
    before, after, dense, prefill_before, prefill_after = tallies = [Tally() for _ in names]
    plain, plain_after = [], []
    for asked in known:
        key = asked.load.hardware.key
        others = [each for each in known if each.load.hardware.key != key and each.series != asked.series]
        bare = Predictor(others)
        before.add(bare.decode(asked.load), asked.decode_tps)
        plain.append(abs(constant(others) / asked.load.ideal_s / asked.decode_tps - 1))
        if asked.prefill_tps is not None:
            prefill_before.add(bare.prefill(asked.load), asked.prefill_tps)
        for local in known:
            if local is asked or local.load.hardware.key != key or local.series != asked.series:
                continue
            learned = Predictor(others, [local])
            after.add(learned.decode(asked.load), asked.decode_tps)
            if not asked.load.moe and not local.load.moe:
                dense.add(learned.decode(asked.load), asked.decode_tps)
            plain_after.append(abs(constant([local]) / asked.load.ideal_s / asked.decode_tps - 1))
            if asked.prefill_tps is not None:
                prefill_after.add(learned.prefill(asked.load), asked.prefill_tps)
    print(f"{'':<36}{'rates':>5}{'median':>9}{'9 in 10':>9}{'held':>9}{'+- 90%':>9}")
    for name, tally in zip(names, tallies, strict=True):
        print(tally.line(name))
    print(f"{'decode, one share of the bus':<36}{len(plain):>5}{median(plain):>9.1%}")
    print(f"{'decode, the share of that one row':<36}{len(plain_after):>5}{median(plain_after):>9.1%}")


if __name__ == "__main__":
    if sys.argv[1:]:
        from orchestrator.commands.predicted import predicted_of_runs
        from orchestrator.terminal import stdout

        for run in sys.argv[1:]:
            stdout().page(*predicted_of_runs(Path(run), (), as_json=False))
    else:
        of_published()
