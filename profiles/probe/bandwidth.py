"""How fast the processor reads RAM, measured: no table knows which memory modules were put in.

All usable cores search a buffer much larger than the caches for a byte that is not in it (libc's ``memchr``, which
reads every byte once and writes nothing, as decoding does with weights). The best of a few passes counts, since another
process can only make a pass slower. The ceiling of decode rates is built on it, so it must not be too low: a pass in
which the threads had to wait for a core is thrown away, and a machine that is busy throughout gives no figure.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import re
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from profiles.probe.system import System

MIB = 1 << 20
CACHE_FACTOR = 4
MIN_BYTES = 256 * MIB
MAX_BYTES = 1024 * MIB
PASSES = 6
MAX_WAIT = 1.2
"""A pass counts when it took at most this much longer than the CPU time of its slowest thread."""


def measure_read_bandwidth(system: System, *, cores: float | None, free_bytes: int | None) -> float | None:
    """Bytes per second that all usable cores together read; None for too little free RAM, or a machine that is busy.

    Takes some tenths of a second, and as much RAM as four times the last-level cache, 256 MiB to 1 GiB.
    """
    size = min(MAX_BYTES, max(MIN_BYTES, CACHE_FACTOR * _last_level_cache_bytes(system)))
    if free_bytes is None or size > free_bytes // 4:
        return None
    threads = max(1, round(cores or 1))
    slice_bytes = size // threads // mmap.PAGESIZE * mmap.PAGESIZE
    with mmap.mmap(-1, slice_bytes * threads) as memory:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a kernel without huge pages
                memory.madvise(mmap.MADV_HUGEPAGE)
        start = ctypes.c_char.from_buffer(memory)
        address = ctypes.addressof(start)
        ctypes.memset(address, 1, slice_bytes * threads)
        passes = [_pass(address, slice_bytes, threads) for _ in range(PASSES)]
        del start  # an exported buffer keeps the map open
    seconds = [wall for wall, cpu in passes if wall <= MAX_WAIT * cpu]
    return slice_bytes * threads / min(seconds) if seconds else None


def _pass(address: int, slice_bytes: int, threads: int) -> tuple[float, float]:
    """Seconds until the last thread has read its slice, and the most CPU time of any, all starting together."""
    search = ctypes.CDLL(None).memchr  # a CDLL's functions run without the interpreter's lock
    search.restype = ctypes.c_void_p
    search.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    gate = threading.Barrier(threads + 1)
    spent = [0.0] * threads

    def read(number: int) -> None:
        gate.wait()
        before = time.thread_time()
        search(address + number * slice_bytes, 2, slice_bytes)
        spent[number] = time.thread_time() - before

    workers = [threading.Thread(target=read, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    gate.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    return time.perf_counter() - began, max(spent)


def _last_level_cache_bytes(system: System) -> int:
    """The largest cache of the first core: ``32768K`` in the kernel's spelling; 0 where it is not told."""
    sizes = [0]
    for index in system.entries("/sys/devices/system/cpu/cpu0/cache"):
        match = re.fullmatch(r"(\d+)([KMG])", system.text(index / "size") or "")
        if match:
            sizes.append(int(match[1]) << {"K": 10, "M": 20, "G": 30}[match[2]])
    return max(sizes)
