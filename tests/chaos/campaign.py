"""Sweeps under random faults, one after another, until enough faults were done; then what must hold is checked."""

from __future__ import annotations

import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.chaos import checks
from tests.chaos.faults import LONGEST_S, Fault, Strike, World
from tests.chaos.sweep import Sweep

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    from tests.chaos.cluster import Cluster
    from tests.chaos.host import Host
    from tests.chaos.report import Report
    from tests.chaos.truth import Known

NO_NEWS_S = 300.0
"""A driver that neither ends nor commits anything for so long, with all faults mended, is stuck."""
MOST_STARTS_IN_A_ROW = 4
"""So many starts without a fault in between have to be enough to bring a sweep to its end."""
LOOK_S = 0.2
AFTER_A_ROW = 0.7
"""How many of the faults wait for a row since the one before: else most would hit a sweep that is still starting."""
ROW_WITHIN_S = 30.0
MOST_SWEEPS_IN_VAIN = 3
"""A fault that found nothing to strike in so many sweeps makes room for another: else a campaign might never end."""


@dataclass(slots=True)
class Campaign:
    """Plays sweeps on a cluster. `say` takes lines for a person; `gap_s` are least and most seconds between faults."""

    host: Host
    cluster: Cluster
    report: Report
    random: Random
    known: dict[str, Known]
    folder: Path
    environment: dict[str, str]
    say: Callable[[str], None]
    seeds: int
    engine: str = "embedded"
    gap_s: tuple[float, float] = (0.5, 6.0)
    longest_s: float = LONGEST_S
    queue: list[Fault] = field(default_factory=list)
    _table: list[Fault] = field(default_factory=list)
    _in_vain: Counter[str] = field(default_factory=Counter)
    missed_in_this_sweep: set[str] = field(default_factory=set)
    _strikes: list[Strike] = field(default_factory=list)
    _mends: list[tuple[float, Strike]] = field(default_factory=list)
    _news_s: float = 0.0

    def plan_faults(self, number: int, table: list[Fault]) -> None:
        """Draws so many faults: the whole table in random order, again and again."""
        self._table = list(table)
        while len(self.queue) < number:
            self.queue += self.random.sample(table, len(table))
        del self.queue[number:]

    def play(self, number: int, *, most_faults: int) -> None:
        """One sweep: faults while it runs, starts until it is done, checks."""
        sweep = Sweep(
            self.folder / f"sweep-{number}",
            self.host,
            self.environment,
            self.cluster.models,
            self.cluster.address,
            self.seeds,
            self.engine,
        )
        world = World(self.host, self.cluster, sweep, self.random, self.longest_s)
        for fault in [fault for fault in self.queue if fault.impossible(world)]:
            self.report.impossible[fault.name] = fault.impossible(world)
            self.queue.remove(fault)
        self._strikes, self._mends = [], []
        self.missed_in_this_sweep = set()
        try:
            self._run(sweep, world, most_faults)
            self._check(sweep)
        finally:
            self._mend_all()
            sweep.close()
        self.give_up()

    def give_up(self) -> None:
        """Puts others in place of the faults that found nothing to strike in sweep after sweep."""
        self._in_vain.update(self.missed_in_this_sweep - {strike.name for strike in self._strikes})
        vain = {name for name, times in self._in_vain.items() if times >= MOST_SWEEPS_IN_VAIN}
        for name in vain & {fault.name for fault in self.queue}:
            self.report.given_up[name] = f"it found nothing to strike in {MOST_SWEEPS_IN_VAIN} sweeps"
            self.say(f"  {name}: given up, {self.report.given_up[name]}")
        others = [fault for fault in self._table if fault.name not in vain]
        kept = [self.random.choice(others) if fault.name in vain and others else fault for fault in self.queue]
        self.queue = kept if others else []

    # --- while it runs ----------------------------------------------------------------------------------------

    def _run(self, sweep: Sweep, world: World, most_faults: int) -> None:
        self._begin(sweep)
        next_s = time.monotonic() + self.random.uniform(*self.gap_s)
        patient, struck_at = self.random.random() < AFTER_A_ROW, 0
        starts_in_a_row, committed = 1, 0
        while True:
            now = time.monotonic()
            self._tend(now, driver_runs=sweep.running)
            if not sweep.running:
                self._mend_all()
                start = sweep.last
                self.say(f"  the command ended: {'killed' if start.killed else f'exit {start.code}'}")
                self._await_cluster()
                if not start.killed and start.code == 0:
                    return
                if starts_in_a_row >= MOST_STARTS_IN_A_ROW:
                    last = start.text.strip().splitlines()[-1:]
                    self._violation(f"{starts_in_a_row} starts without a fault did not end the sweep: {last}")
                    return
                starts_in_a_row += 1
                more = ["--retry-failed"] if start.code == 1 and not start.killed else []
                self._begin(sweep, *more)
                continue
            due = now >= next_s and (not patient or committed > struck_at or now >= next_s + ROW_WITHIN_S)
            if self.queue and len(self._strikes) < most_faults and due:
                if self._strike(world):
                    starts_in_a_row = 0
                next_s = time.monotonic() + self.random.uniform(*self.gap_s)
                patient, struck_at = self.random.random() < AFTER_A_ROW, committed
            if (count := sweep.committed()) != committed:
                committed, self._news_s = count, now
            if self._mends:
                self._news_s = now
            if now - self._news_s > NO_NEWS_S:
                self._violation(f"the driver is stuck: no news for {NO_NEWS_S:.0f} s; {sweep.last.log}")
                sweep.signal(signal.SIGKILL)
                self._news_s = now
            time.sleep(LOOK_S)

    def _begin(self, sweep: Sweep, *more: str) -> None:
        sweep.start(*more)
        self._news_s = time.monotonic()

    def _strike(self, world: World) -> bool:
        fault = self.queue.pop(0)
        strike = fault.strike(world)
        if strike is None:
            self.queue.append(fault)
            self.missed_in_this_sweep.add(fault.name)
            return False
        strike.name = fault.name
        self._strikes.append(strike)
        if strike.mend is not None:
            self._mends.append((strike.at_s + strike.mend_after_s, strike))
        self.say(f"  {fault.name}: {strike.what}")
        self._news_s = time.monotonic()
        return True

    def _tend(self, now: float, *, driver_runs: bool) -> None:
        for due_s, strike in list(self._mends):
            if now >= due_s:
                self._mend(strike)
                self._mends.remove((due_s, strike))
        for node in self.cluster.tend(self.host.processes(), may_restart=not driver_runs):
            self.say(f"  {node.name} is started again")

    def _mend(self, strike: Strike) -> None:
        if strike.mend is not None:
            strike.mend()

    def _mend_all(self) -> None:
        for _, strike in self._mends:
            self._mend(strike)
        self._mends.clear()

    def _await_cluster(self) -> None:
        """Returns when there is a head and a node; the others may come while the sweep runs."""
        while not self.cluster.is_up(self.host.processes()):
            self._tend(time.monotonic(), driver_runs=False)
            time.sleep(LOOK_S)

    # --- afterwards -------------------------------------------------------------------------------------------

    def _check(self, sweep: Sweep) -> None:
        planned = [job.job_id for job in sweep.plan().jobs]
        rows = sweep.rows()
        found = checks.check_rows(planned, rows, self.known)
        found += checks.check_words(sweep)
        found += checks.check_processes(self.host)
        sweep.visit_nodes()
        found += checks.check_processes(self.host)
        found += checks.check_files(sweep, self.cluster, {row["job_id"] for row in rows if row["final"]})
        self.report.late += self.cluster.clear_spools()
        for what in found:
            self._violation(f"{sweep.folder.name}: {what}")
        self.report.add(sweep, self._strikes, rows, len(planned))

    def _violation(self, what: str) -> None:
        self.say(f"  VIOLATION: {what}")
        self.report.violations.append(what)
