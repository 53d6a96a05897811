"""What a server and its supervisor report on the pipe between us: JSON objects, a line each, of bounded size.

The pipe is the server's too, and a model's server may be anything: lines without an end, and keys without number, cost
no more memory than a few of them.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any, Final

LINE_BYTES: Final = 64 << 10
"""A report is some hundred bytes; of a line beyond this nothing is kept."""
MOST_KEYS: Final = 64
"""More than anybody reports."""


class Reports:
    """The reports so far: `said` has the last value of every key."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = {}
        self._unread = b""
        self._too_long = False

    def take(self, data: bytes) -> None:
        """Takes in what came; the end of it may be the beginning of a line."""
        *lines, rest = (self._unread + data).split(b"\n")
        if lines and self._too_long:
            del lines[0]  # the end of one
            self._too_long = False
        for line in lines:
            if len(line) <= LINE_BYTES:
                self._read(line)
        self._too_long = self._too_long or len(rest) > LINE_BYTES
        self._unread = b"" if self._too_long else rest

    def _read(self, line: bytes) -> None:
        with contextlib.suppress(ValueError, RecursionError):
            report = json.loads(line)
            if isinstance(report, dict):
                for key, value in report.items():
                    if key in self.said or len(self.said) < MOST_KEYS:
                        self.said[key] = value
