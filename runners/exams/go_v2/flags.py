"""Reads the names and types of a program's flags from what it prints for `-h`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["duration", "number", "text", "other"]

_SHOWN_CHARS = 20_000
_MOST_FLAGS = 100
# As Go's flag package prints them: `  -name type`, and on the same line or the next ones what it is for.
_FLAG = re.compile(r"^ {1,8}--?([A-Za-z][A-Za-z0-9_.-]{0,60})(?:[ =]([A-Za-z0-9_]{1,30}))?[ \t]*(?:\t.*)?$")
_DEFAULT = re.compile(r"\(default:? \"?([^\")]{1,60})\"?\)")
_DURATION = re.compile(r"(?:\d{1,12}(?:\.\d{1,12})?(?:ns|us|µs|ms|s|m|h)){1,6}")
_NUMBERS = {
    "int",
    "int64",
    "uint",
    "uint64",
    "float",
    "float64",
    "n",
    "number",
    "count",
    "seconds",
    "ms",
    "milliseconds",
}
_BUFFER = re.compile(r"buf|queue|capacity|backlog")
_FLUSH = re.compile(r"flush|retry|reconnect|drain")
# Flags about flushing that are no pause between two tries: how many, how large, how long one may take.
_NO_PAUSE = re.compile(
    r"size|count|batch|max|limit|attempt|retries|timeout|worker|chunk|rate|factor|jitter|multipl|enable"
)


@dataclass(frozen=True)
class Flags:
    """The flags that a scenario sets, as they are called here; None where a program has none.

    `interval` and `flush` are followed by whether they are durations; other kinds are whole numbers.
    """

    interval: str = "interval"
    interval_is_duration: bool = True
    buffer: str | None = None
    flush: str | None = None
    flush_is_duration: bool = True

    @property
    def is_quick(self) -> bool:
        """Whether it can scrape every 10 ms; a second is the least that a whole number can say."""
        return self.interval_is_duration

    def words(self, buffer_size: int, flush: str) -> list[str]:
        """The arguments for a run with a buffer of that size; `flush` is a duration."""
        found = [f"-{self.interval}={'10ms' if self.interval_is_duration else '1'}"]
        if self.buffer is not None:
            found.append(f"-{self.buffer}={buffer_size}")
        if self.flush is not None:
            found.append(f"-{self.flush}={flush if self.flush_is_duration else '1'}")
        return found


def read_flags(text: str) -> dict[str, Any]:
    """What `-h` printed, as the fields of `Flags`."""
    found = _listed(text[:_SHOWN_CHARS])
    if not found:  # a usage text of its own: the flags that were asked for
        return {"buffer": "buffer-size"}
    fields: dict[str, Any] = {}
    interval = _first(found, ("interval", "scrape-interval", "poll-interval"))
    if interval is not None:
        fields |= {"interval": interval, "interval_is_duration": found[interval] != "number"}
    numbers = [name for name, kind in found.items() if kind == "number"]
    buffer = "buffer-size" if "buffer-size" in found else next((name for name in numbers if _BUFFER.search(name)), None)
    fields["buffer"] = buffer
    pauses = [name for name in found if _FLUSH.search(name) and not _NO_PAUSE.search(name) and name != buffer]
    durations = [name for name in pauses if found[name] == "duration"]
    flush = next(iter(durations), None) or next((name for name in pauses if found[name] == "number"), None)
    if flush is not None:
        fields |= {"flush": flush, "flush_is_duration": found[flush] == "duration"}
    return fields


def _first(found: dict[str, Kind], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in found), None)


def _listed(text: str) -> dict[str, Kind]:
    """Name -> kind, in the order of the list."""
    found: dict[str, Kind] = {}
    name = word = None
    for line in text.splitlines():
        start = _FLAG.match(line)
        if start:
            name, word = start[1], (start[2] or "").lower()
            if len(found) >= _MOST_FLAGS:
                break
            found[name] = _kind(word, None)
        default = _DEFAULT.search(line)
        if name is not None and word is not None and default is not None:
            found[name] = _kind(word, default[1])
    return found


def _kind(word: str, default: str | None) -> Kind:
    if word == "duration" or (default is not None and _DURATION.fullmatch(default)):
        return "duration"
    if word in _NUMBERS or (default is not None and default.isascii() and default.isdigit()):
        return "number"
    return "text" if word == "string" else "other"
