"""What a person sees while a sweep runs: a live view in a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from results.answer import cell_name, exam_name
from results.figures import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from orchestrator.terminal import Printer
    from profiles.types import NodeProfile
    from runners.orders import ModelLoaded, PhaseChanged

_NARROW = 100
"""On terminals with fewer characters a line, the live view gives each lane two lines."""


class Progress(Protocol):
    """What the driver tells whoever watches."""

    def say(self, text: str) -> None:
        """A sentence for a person."""

    def node_joined(self, node_id: str, profile: NodeProfile) -> None:
        """A node takes part."""

    def node_lost(self, node_id: str) -> None:
        """A node is gone."""

    def started(self, lease_id: str, node_id: str, place_id: str, label: str) -> None:
        """A cell is being brought to a device."""

    def loaded(self, event: ModelLoaded) -> None:
        """Its model is loaded."""

    def phase(self, event: PhaseChanged) -> None:
        """It does something else now, or is further with it."""

    def committed(self, row: dict[str, Any]) -> None:
        """A row is in the store."""

    def asked_for(self, total: int) -> None:
        """So many jobs there are by now, as the scores have it."""

    def ended(self, lease_id: str) -> None:
        """The device is free again."""


@dataclass(slots=True)
class _Lane:
    """One lease, as shown."""

    place: str
    label: str
    phase: str = "starting"
    job: str = ""
    rate: float | None = None
    fraction: float | None = None

    @property
    def activity(self) -> str:
        """The phase, with how far it is where that is known."""
        return self.phase if self.fraction is None else f"{self.phase} {self.fraction:.0%}"


class Tally:
    """Counts jobs and estimates the time left; the part that both views share."""

    def __init__(
        self, total: int, done: int, clock: Callable[[], float] = time.monotonic, *, most: int | None = None
    ) -> None:
        """`total` jobs there are, and no more than `most` will be, where that depends on the scores."""
        self.total, self.done, self.failed, self.retried = total, done, 0, 0
        self.most = most
        self._clock = clock
        self._began_s: float | None = None
        self._done_at_start = done

    def count(self, row: dict[str, Any]) -> None:
        """Takes in a committed row."""
        failed = row["outcome_class"] == "infrastructure"
        if row["final"]:
            self.done += 1
            self.failed += failed
        else:
            self.retried += failed

    def begin(self) -> None:
        """The first job begins: the estimate counts from here, so that starting up does not distort it."""
        if self._began_s is None:
            self._began_s = self._clock()

    def left_s(self) -> float | None:
        """Seconds until the end at the pace so far, None before a job is done."""
        here = self.done - self._done_at_start
        if self._began_s is None or here <= 0:
            return None
        return (self._clock() - self._began_s) / here * (self.total - self.done)

    def line(self) -> str:
        """`12 of 30 jobs done, 1 failed, 2 retried, about 1m 20s left`; `20 of 30 jobs done (240 at most)`."""
        parts = [f"{self.done} of {self.total} {plural(self.total, 'job')} done"]
        may_grow = self.most is not None and self.done < self.total < self.most
        if may_grow:
            parts = [f"{parts[0]} ({self.most} at most)"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.retried:
            parts.append(f"{self.retried} retried")
        left = self.left_s()
        if left is not None and self.done < self.total:
            parts.append(f"{'at least' if may_grow else 'about'} {duration(left)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """`45s`, `3m 20s`, `2h 05m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


class _View:
    """Keeps the lanes; subclasses show them."""

    def __init__(self, tally: Tally, out: Printer) -> None:
        self._tally, self._out = tally, out
        self._lanes: dict[str, _Lane] = {}
        self._hosts: dict[str, str] = {}

    def say(self, text: str) -> None:
        """Prints the sentence."""
        self._out.say(text)

    def node_joined(self, node_id: str, profile: NodeProfile) -> None:
        """Remembers what the node is called."""
        self._hosts[node_id] = profile.hostname

    def node_lost(self, node_id: str) -> None:
        """Takes its lanes off."""
        host = self._hosts.pop(node_id, None)
        for lease_id in [key for key, lane in self._lanes.items() if host and lane.place.startswith(f"{host}/")]:
            del self._lanes[lease_id]

    def started(self, lease_id: str, node_id: str, place_id: str, label: str) -> None:
        """Opens a lane."""
        self._lanes[lease_id] = _Lane(f"{self._hosts.get(node_id, node_id[:8])}/{place_id}", label)

    def loaded(self, event: ModelLoaded) -> None:
        """Says how long the load took."""
        if lane := self._lanes.get(event.lease_id):
            lane.phase, lane.fraction = f"loaded in {event.load_s:.1f}s", None

    def phase(self, event: PhaseChanged) -> None:
        """Moves a lane on."""
        if event.phase == "generating":
            self._tally.begin()
        if lane := self._lanes.get(event.lease_id):
            waits = event.phase == "waiting for device" and event.holder
            lane.phase, lane.fraction = f"waits for {event.holder}" if waits else event.phase, event.fraction
            of = "of" if self._tally.most in (None, self._tally.total) else "of at most"
            lane.job = f"job {event.number} {of} {event.total}" if event.number else lane.job
            lane.rate = event.tokens_per_s if event.tokens_per_s is not None else lane.rate

    def committed(self, row: dict[str, Any]) -> None:
        """Counts the row."""
        self._tally.count(row)

    def asked_for(self, total: int) -> None:
        """Counts on so many."""
        self._tally.total = total

    def ended(self, lease_id: str) -> None:
        """Closes a lane."""
        self._lanes.pop(lease_id, None)


def score_text(row: dict[str, Any]) -> str:
    """`score 100/100`, or why there is none."""
    if row.get("score") is None:
        return f"no score: {row['outcome']} ({(row.get('error') or '').splitlines()[0] if row.get('error') else ''})"
    marked = "" if row["outcome_class"] == "model" else f" ({row['outcome']})"
    return f"score {round(row['score'], 1):g}/{row['score_max']:g}{marked}"


class PlainProgress(_View):
    """Lines, for files and pipes: one for each thing that happens, none that is overwritten."""

    def node_joined(self, node_id: str, profile: NodeProfile) -> None:
        """Remembers what the node is called."""
        super().node_joined(node_id, profile)
        self.say(f"node {profile.hostname}: {', '.join(device.name for device in profile.devices)}")

    def started(self, lease_id: str, node_id: str, place_id: str, label: str) -> None:
        """Opens a lane."""
        super().started(lease_id, node_id, place_id, label)
        self.say(f"{self._lanes[lease_id].place}: loading {label}")

    def phase(self, event: PhaseChanged) -> None:
        """Moves a lane on; says once for whom it waits."""
        lane = self._lanes.get(event.lease_id)
        before = lane.phase if lane else ""
        super().phase(event)
        if lane and event.phase == "waiting for device" and lane.phase != before:
            self.say(f"{lane.place}: the device is in use; {lane.label} {lane.phase}")
        if lane and event.note:
            self.say(f"{lane.place}: {lane.label}: {event.note}")

    def committed(self, row: dict[str, Any]) -> None:
        """Counts the row."""
        super().committed(row)
        rate = f", {row['decode_tps']:.0f} tok/s" if row.get("decode_tps") else ""
        cell = cell_name(row["model"], row["variant"], row["quant"])
        exam = exam_name(row["exam"], row.get("task"))
        self.say(f"  {cell} {exam} seed {row['seed']}: {score_text(row)}{rate}; {self._tally.line()}")


class LiveProgress(_View):
    """A table that is redrawn in place: a line a device, and a bar for the whole."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        narrow = options.max_width < _NARROW
        lanes = list(self._lanes.values())  # the screen is drawn by a thread of its own
        yield from self._narrow_lanes(lanes, console) if narrow else [self._lane_table(lanes)]
        bar = ProgressBar(total=max(self._tally.total, 1), completed=self._tally.done, width=30)
        text = Text(self._tally.line())
        whole = Table.grid(padding=(0, 2, 0, 0))
        if narrow:
            whole.add_row(text)
            whole.add_row(bar)
        else:
            whole.add_row(bar, text)
        yield whole

    def _lane_table(self, lanes: list[_Lane]) -> RenderableType:
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0), show_header=bool(lanes), header_style="dim")
        for name in ("device", "cell", "phase", "job"):
            table.add_column(name, no_wrap=True, overflow="ellipsis")
        table.add_column("tok/s", justify="right", no_wrap=True)
        for lane in lanes:
            table.add_row(lane.place, lane.label, lane.activity, lane.job, f"{lane.rate:.0f}" if lane.rate else "")
        return table

    def _narrow_lanes(self, lanes: list[_Lane], console: Console) -> RenderResult:
        """Two lines a lane: where and what, and how far it is."""
        for lane in lanes:
            yield console.render_str(f"{lane.place}: {lane.label}")
            rate = f"{lane.rate:.0f} tok/s" if lane.rate else ""
            yield console.render_str("  " + ", ".join(part for part in (lane.activity, lane.job, rate) if part))


@contextmanager
def watch(total: int, done: int, out: Printer, *, most: int | None = None) -> Iterator[Progress]:
    """The right view for `out`; the live one is taken off the screen at the end. `most`: see `Tally`."""
    tally = Tally(total, done, most=most)
    if not out.is_terminal:
        yield PlainProgress(tally, out)
        return
    view = LiveProgress(tally, out)
    with out.live(view):
        yield view
