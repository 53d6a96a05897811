"""RAM of a process tree: cheap readings all the time, exact ones seldom, and the kernel's own peak to catch spikes.

Three files of ``/proc/PID`` are used, because none is enough alone:

- ``statm`` costs a microsecond and gives RSS and its file-backed part, but counts shared pages in full;
- ``smaps_rollup`` gives the proportional share (Pss_Anon, Pss_File, Pss_Shmem), but walks every page: 10 ms a GiB of
  small pages. It is read seldom, and what it says beyond ``statm`` is carried forward as a correction;
- ``status`` has VmHWM, the kernel's exact peak of RSS, which catches what rose and fell between two readings. Writing 5
  to ``clear_refs`` starts it anew, so that each window has its own peak (proc_pid_clear_refs(5)).

Without Linux's files (macOS) psutil's RSS is all there is.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

KIB = 1024
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class RamReading:
    """A tree's memory at one moment. ``share_bytes`` is anonymous + file + shared memory, in proportion, corrected."""

    share_bytes: int
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class ExactReading:
    """What smaps_rollup says of the tree. Shared memory (tmpfs, memfd) is part of ``file_bytes``."""

    anon_bytes: int
    file_bytes: int

    @property
    def share_bytes(self) -> int:
        """The whole proportional share."""
        return self.anon_bytes + self.file_bytes


@dataclass(slots=True)
class _Process:
    pid: int
    statm: int
    rss_bytes: int = 0
    # smaps_rollup less statm when both were read last; 0 until then.
    correction_bytes: int = 0
    own_peak_bytes: int = 0


class RamSource(Protocol):
    """How the sampler reads a tree's RAM; :class:`TreeMemory` on Linux, :class:`TreeRss` elsewhere."""

    share_refused: str | None

    def pids(self) -> tuple[int, ...]:
        """The processes of the tree as last seen."""
        ...

    def refresh(self) -> None:
        """Look for processes that came."""
        ...

    def read(self) -> RamReading | None:
        """The tree now; None when nothing of it is left."""
        ...

    def read_exact(self) -> ExactReading | None:
        """The proportional share; None where it cannot be had."""
        ...

    def missed_bytes(self) -> int:
        """How much higher the kernel's own peak of RSS was than anything that was read."""
        ...

    def reset_peaks(self) -> None:
        """Start a new window."""
        ...

    def close(self) -> None:
        """Give back what was opened."""
        ...


@dataclass(slots=True)
class TreeMemory:
    """The memory of ``pid`` and all of its descendants, as they come and go."""

    pid: int
    proc: Path = field(default_factory=lambda: Path("/proc"))
    _processes: dict[int, _Process] = field(default_factory=dict)
    # Why smaps_rollup was of no use, None as long as it was.
    share_refused: str | None = None
    _resets: bool = True
    _several: bool = False

    def pids(self) -> tuple[int, ...]:
        """The processes of the tree as last seen."""
        return tuple(self._processes)

    def refresh(self) -> None:
        """Look for processes that came; a millisecond or two, so the caller does it seldom."""
        for pid in descendants(self.pid):
            if pid not in self._processes:
                with contextlib.suppress(OSError):
                    statm = os.open(self.proc / str(pid) / "statm", os.O_RDONLY | os.O_CLOEXEC)
                    self._processes[pid] = _Process(pid, statm)
        self._several = self._several or len(self._processes) > 1

    def read(self) -> RamReading | None:
        """The tree now; None when nothing of it is left."""
        share = rss = 0
        for process in list(self._processes.values()):
            # The open file stays with its process: a pid that was given to another program is not read by mistake.
            try:
                words = os.pread(process.statm, 128, 0).split()
            except OSError:
                words = []
            if len(words) < 3 or words[1] == b"0":
                self._drop(process)
                continue
            process.rss_bytes = int(words[1]) * PAGE_BYTES
            process.own_peak_bytes = max(process.own_peak_bytes, process.rss_bytes)
            rss += process.rss_bytes
            share += max(0, process.rss_bytes + process.correction_bytes)
        return RamReading(share, rss) if self._processes else None

    def read_exact(self) -> ExactReading | None:
        """The tree's proportional share by smaps_rollup, and the corrections anew; None where it cannot be read."""
        anon = file = 0
        for process in list(self._processes.values()):
            fields = self._rollup(process.pid)
            if fields is None:
                return None
            process_anon = fields.get("Pss_Anon", 0)
            process_file = fields.get("Pss_File", 0) + fields.get("Pss_Shmem", 0)
            # Both from one walk of the pages: the difference is what is shared, and changes slowly.
            process.correction_bytes = process_anon + process_file - fields.get("Rss", 0)
            anon += process_anon
            file += process_file
        return ExactReading(anon, file) if self._processes else None

    def missed_bytes(self) -> int:
        """How far the kernel's own peak of this window lies above what was read: a spike between two readings.

        Known only while the tree is a single process (peaks of several need not coincide) whose peak we may start anew.
        """
        if self._several or not self._resets or len(self._processes) != 1:
            return 0
        process = next(iter(self._processes.values()))
        return max(0, _high_water_bytes(self.proc / str(process.pid)) - process.own_peak_bytes)

    def reset_peaks(self) -> None:
        """Start a new window: peaks begin at the present level."""
        self._several = len(self._processes) > 1
        for process in self._processes.values():
            process.own_peak_bytes = process.rss_bytes
            try:
                (self.proc / str(process.pid) / "clear_refs").write_bytes(b"5")
            except OSError:
                self._resets = False

    def close(self) -> None:
        """Close every file."""
        for process in list(self._processes.values()):
            self._drop(process)

    def _drop(self, process: _Process) -> None:
        with contextlib.suppress(OSError):
            os.close(process.statm)
        self._processes.pop(process.pid, None)

    def _rollup(self, pid: int) -> dict[str, int] | None:
        try:
            text = (self.proc / str(pid) / "smaps_rollup").read_text()
        except ProcessLookupError:
            return {}
        except OSError as error:
            self.share_refused = f"smaps_rollup: {error.strerror or error}"
            return None
        return _kib_fields(text.splitlines())


@dataclass(slots=True)
class TreeRss:
    """The RSS of a tree by psutil, for systems without ``/proc``."""

    pid: int
    share_refused: str | None = "this system has no smaps_rollup"
    _pids: tuple[int, ...] = ()

    def pids(self) -> tuple[int, ...]:
        """The processes of the tree as last seen."""
        return self._pids

    def refresh(self) -> None:
        """Look for processes that came."""
        self._pids = tuple(descendants(self.pid))

    def read(self) -> RamReading | None:
        """The sum of RSS; None when nothing of the tree is left."""
        import psutil

        sizes = []
        for pid in self._pids:
            with contextlib.suppress(psutil.Error):
                sizes.append(int(psutil.Process(pid).memory_info().rss))
        return RamReading(sum(sizes), sum(sizes)) if sizes else None

    def read_exact(self) -> ExactReading | None:
        """Nothing: there is no proportional share here."""
        return None

    def missed_bytes(self) -> int:
        """Not known here."""
        return 0

    def reset_peaks(self) -> None:
        """Nothing to do: there is no kernel peak to start anew."""

    def close(self) -> None:
        """Nothing is held open."""


def ram_source(pid: int) -> RamSource:
    """The best source this system has."""
    return TreeMemory(pid) if Path(f"/proc/{os.getpid()}/statm").exists() else TreeRss(pid)


def descendants(pid: int) -> list[int]:
    """``pid`` and every process below it, by psutil; just ``pid`` when it is gone or may not be asked."""
    import psutil

    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return [pid]


def _high_water_bytes(folder: Path) -> int:
    try:
        text = (folder / "status").read_text()
    except OSError:
        return 0
    return _kib_fields(text.splitlines()).get("VmHWM", 0)


def _kib_fields(lines: Iterable[str]) -> dict[str, int]:
    """``Pss_Anon:   112 kB`` as bytes."""
    fields = {}
    for line in lines:
        words = line.split()
        if len(words) == 3 and words[2] == "kB" and words[1].isdecimal():
            fields[words[0].rstrip(":")] = int(words[1]) * KIB
    return fields
