"""Which cells of a model still need seeds: verdicts on each against the best, from the scores that are there.

Everything here is a function of the scores and of the rule, whatever order they came in: who starts anew with the same
scores comes to the same verdicts and asks for the same seeds. `results.sequential` says what may be wrong, how often.

An undecided cell gets the next block of seeds, and with it those that it is compared with; one whose verdict is not to
be expected before the cap, going on as so far, gets no more: what it would cost is spared, and no verdict is claimed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from results.sequential import ERROR, Wager, fractions, may_win, mean_sequence

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

Standing = Literal["best", "worse", "equivalent", "measured", "undecided", "unscored"]
"""Where a cell stands.

`best`: it has the highest mean so far. `worse`, `equivalent`: than the best, see `results.sequential`. `measured`: it
is the only one of its model, and the interval of its mean is within the margin to either side. `undecided`: none of
these. `unscored`: the infrastructure failed so many of its seeds in a row that no more are asked for.
"""

_BLOCK_SHARE: Final = 3
"""A block of seeds is a third of those before, or the least number: a cell is loaded anew for each, and fewer, longer
blocks cost few seeds, as a verdict is looked for after every one of them."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How many seeds a cell gets: `least` at first, `most` at the end; `margin` is a share of full marks.

    Raises:
        ValueError: not 2 <= least <= most, or not 0 < margin < 1/2.
    """

    least: int
    most: int
    margin: float

    def __post_init__(self) -> None:
        if not (2 <= self.least <= self.most and 0 < self.margin < 0.5):
            msg = f"no rule for seeds: {self.least} to {self.most} of them, a margin of {self.margin}"
            raise ValueError(msg)

    def next_look(self, seeds: int) -> int:
        """How many seeds a cell that has had `seeds` is to have next."""
        look = self.least
        while look <= seeds and look < self.most:
            look = min(look + max(self.least, look // _BLOCK_SHARE), self.most)
        return look

    def last_look(self, seeds: int) -> int:
        """The last number of seeds that was asked for, where `seeds` have ended; 0 before the first."""
        look = 0
        while look < self.most and (following := self.next_look(look)) <= seeds:
            look = following
        return look


@dataclass(slots=True)
class _Cell:
    """Scores of a cell as shares of full marks, in the order of the seeds; None where a seed has ended without one."""

    ended: list[float | None] = field(default_factory=list)
    early: dict[int, float | None] = field(default_factory=dict)
    total: float = 0.0
    scored: int = 0
    failed_last: int = 0

    @property
    def mean(self) -> float:
        return self.total / self.scored if self.scored else 0.0


@dataclass(slots=True)
class _Pair:
    """One cell against another, over the first `taken` seeds: bets that its mean is lower, and that it keeps up."""

    lower: Wager
    keeps: Wager
    taken: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """What the scores of a contest say.

    Attributes:
        best: the cell with the highest mean, of those that have had their first seeds; the first of several.
        standings: where each cell stands.
        in_the_way: for each other cell, those that may be better by more than the margin, as far as was shown: the
            best alone, or others where it is not that.
    """

    best: str | None
    standings: Mapping[str, Standing]
    in_the_way: Mapping[str, Sequence[str]]


class Contest:
    """The cells of one model on one exam. `put` takes in what has ended; the rest are questions."""

    def __init__(self, names: Iterable[str], rule: Rule) -> None:
        self._rule = rule
        self._cells = {name: _Cell() for name in names}
        self._pairs: dict[tuple[str, str], _Pair] = {}
        self._outlooks: dict[tuple[str, str, str, int], bool] = {}
        ordered = len(self._cells) * (len(self._cells) - 1)
        self._told_lower = max(ordered, 1) / ERROR
        self._told_keeps = 1 / ERROR
        self._absent: frozenset[str] = frozenset()
        self._given: dict[str, int] = {}
        # Bets that are too small to be won within the cap are not made, as each takes its part of the stake. At best a
        # bet f wins f drift / 2 a seed (Kelly), where f is the drift over the variance. The variance of a difference is
        # hardly above 1/2, as of two cells that pass half of their seeds; against the margin, the margin is the drift.
        self._lower_bets = fractions(math.sqrt(4 * math.log(self._told_lower) / rule.most))
        self._keeps_bets = fractions(2 * math.log(self._told_keeps) / rule.most * (1 - rule.margin) / rule.margin)

    def put(self, name: str, place: int, share: float | None) -> None:
        """Takes in that a cell's seed number `place`, from 0, has ended with a share of full marks, or without one."""
        cell = self._cells[name]
        if place < len(cell.ended):  # what counts has changed: a failure was made good
            if cell.ended[place] != share:
                ended = [*cell.ended[:place], share, *cell.ended[place + 1 :]]
                self._cells[name] = cell = _Cell(early=dict(enumerate(ended)) | cell.early)
                self._pairs = {pair: found for pair, found in self._pairs.items() if name not in pair}
                self._outlooks = {key: found for key, found in self._outlooks.items() if name not in key[:2]}
        else:
            cell.early[place] = share
        while len(cell.ended) in cell.early:
            self._end(cell, cell.early.pop(len(cell.ended)))

    def _end(self, cell: _Cell, share: float | None) -> None:
        cell.ended.append(share)
        if share is None:
            cell.failed_last += 1
            return
        cell.failed_last = 0
        cell.scored += 1
        cell.total += share

    def leave_out(self, names: Collection[str]) -> None:
        """Cells that nobody can run now: the others do not wait for them."""
        self._absent = frozenset(names)

    # --- questions --------------------------------------------------------------------------------------------

    def seeds(self, name: str) -> int:
        """How many seeds of a cell have ended, without a gap."""
        return len(self._cells[name].ended)

    def look(self) -> Look:
        """What the scores say now."""
        known = [name for name, cell in self._cells.items() if cell.scored and len(cell.ended) >= self._rule.least]
        # Of several with the highest mean the first: `max` keeps it.
        best = max(known, key=lambda name: self._cells[name].mean, default=None)
        told: dict[str, Standing]
        if best is None or len(self._cells) == 1:
            told = {name: "measured" for name in known if self._is_measured(name)}
            return Look(best, {name: self._standing(name, told.get(name)) for name in self._cells}, {})
        lower = {name for name in known if name != best and self._pair(name, best).lower.peak >= self._told_lower}
        rivals = [name for name in known if name not in lower]
        in_the_way = {name: self._in_the_way(name, best, rivals) for name in known if name != best}
        told = dict.fromkeys(lower, "worse")
        told |= {name: "equivalent" for name, rivals in in_the_way.items() if not rivals}
        told[best] = "best"
        return Look(best, {name: self._standing(name, told.get(name)) for name in self._cells}, in_the_way)

    def _in_the_way(self, name: str, best: str, rivals: Sequence[str]) -> list[str]:
        """The best, as long as that is not passed, and then the others: it is the hardest as a rule, and one is soon
        asked, where a model may have hundreds of cells.
        """
        if self._pair(name, best).keeps.peak < self._told_keeps:
            return [best]
        others = (rival for rival in rivals if rival not in (name, best))
        return [rival for rival in others if self._pair(name, rival).keeps.peak < self._told_keeps]

    def targets(self) -> dict[str, int]:
        """How many seeds each cell is to have now; no fewer than have ended."""
        have = {name: self.seeds(name) for name in self._cells}
        new = [name for name, seeds in have.items() if seeds < self._rule.least and not self._is_hopeless(name)]
        targets = have | dict.fromkeys(new, self._rule.least)
        if any(name not in self._absent for name in new):
            self._given = targets
            return targets
        found = self.look()
        asked: set[str] = set()
        for name, standing in found.standings.items():
            if standing == "undecided" and found.best is not None and name not in new:
                rivals = {found.best, *found.in_the_way.get(name, ())}
                if self._may_be_told(name, found.best, rivals):
                    asked |= {name, *rivals}
        asked = {name for name in asked if not self._is_hopeless(name)}
        # What nobody can run now stays asked for: else it would not be waiting any more, and count as there again.
        targets |= {name: max(have[name], self._given.get(name, 0)) for name in asked & self._absent}
        asked -= self._absent
        if short := [have[name] for name in asked if have[name] < self._rule.most]:
            look = self._rule.next_look(min(short))
            targets.update({name: look for name in asked if have[name] < look})
        self._given = targets
        return targets

    def _may_be_told(self, name: str, best: str, rivals: Collection[str]) -> bool:
        """Whether a verdict may still come before the cap, as far as could be told at the end of the last block."""
        if len(self._cells) == 1:
            return True
        return self._may_win(name, best, "lower") or all(self._may_win(name, rival, "keeps") for rival in rivals)

    def _may_win(self, one: str, other: str, which: Literal["lower", "keeps"]) -> bool:
        seeds = min(self.seeds(one), self.seeds(other))
        look = self._rule.last_look(seeds)
        if (found := self._outlooks.get((one, other, which, look))) is None:
            found = self._outlooks[one, other, which, look] = self._reckon(one, other, which, look)
        return found

    def _reckon(self, one: str, other: str, which: Literal["lower", "keeps"], look: int) -> bool:
        pair = self._new_pair()
        wager, threshold = (pair.lower, self._told_lower) if which == "lower" else (pair.keeps, self._told_keeps)
        sign = -1 if which == "lower" else 1
        ended = zip(self._cells[one].ended[:look], self._cells[other].ended[:look], strict=True)
        values = [(1 + sign * (our - their)) / 2 for our, their in ended if our is not None and their is not None]
        for value in values:
            wager.add(value)
        return wager.peak >= threshold or may_win(values, wager, threshold=threshold, more=self._rule.most - look)

    def _standing(self, name: str, told: Standing | None) -> Standing:
        return "unscored" if self._is_hopeless(name) else told or "undecided"

    def _is_hopeless(self, name: str) -> bool:
        return self._cells[name].failed_last >= self._rule.least

    def _is_measured(self, name: str) -> bool:
        values = [share for share in self._cells[name].ended if share is not None]
        found = mean_sequence(values)
        return found.high - found.low <= 2 * self._rule.margin

    def _new_pair(self) -> _Pair:
        return _Pair(Wager(0.5, self._lower_bets), Wager((1 - self._rule.margin) / 2, self._keeps_bets))

    def _pair(self, one: str, other: str) -> _Pair:
        """Of values (1 + one - other) / 2, which are within 0 and 1: 1/2 says that both are equally good."""
        if (pair := self._pairs.get((one, other))) is None:
            pair = self._pairs[one, other] = self._new_pair()
        ours, theirs = self._cells[one].ended, self._cells[other].ended
        for place in range(pair.taken, min(len(ours), len(theirs))):
            share, their = ours[place], theirs[place]
            if share is not None and their is not None:
                pair.lower.add((1 + their - share) / 2)
                pair.keeps.add((1 + share - their) / 2)
            pair.taken = place + 1
        return pair
