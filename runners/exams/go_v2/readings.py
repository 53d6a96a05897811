"""What the inverter shows at each scrape, and whether what a program writes to the sink is one of those readings."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime

STEP_W = 100.0
"""OwnConsumedPower is the number of the scrape times this."""
NUMBERED, MARKED = "OwnConsumedPower_W", "GridConsumedPower_W"
MOST_READINGS = 100_000
_DOCUMENT = """<?xml version="1.0" encoding="UTF-8"?>
<root>
  <Device Name="Sunny Roof 3600" Type="Inverter" Serial="{serial}" IpAddress="192.168.3.60" DateTime="{time}">
    <Measurements>
      <Measurement Value="{volts:.1f}" Unit="V" Type="AC_Voltage"/>
      <Measurement Value="{grid:.2f}" Unit="W" Type="GridConsumedPower"/>
      <Measurement Value="{injected:.2f}" Unit="W" Type="GridInjectedPower"/>
      <Measurement Value="{own:.1f}" Unit="W" Type="OwnConsumedPower"/>
      <Measurement Unit="W" Type="Derating"/>
    </Measurements>
  </Device>
</root>
"""


class Readings:
    """The readings of one inverter, numbered from 1.

    Each bears a mark (the power from the grid) that nobody can work out from its number: what comes back with it was
    read, and kept, and is not made up afterwards.
    """

    def __init__(self) -> None:
        self._random = random.SystemRandom()
        self._serial = str(self._random.randrange(10**9, 10**10))
        self._marks: list[float] = []

    @property
    def count(self) -> int:
        """How many were taken."""
        return len(self._marks)

    def take(self) -> bytes:
        """The inverter's document for the next one."""
        mark = self._random.randrange(1, 10**8) / 100.0
        self._marks.append(mark)
        return _DOCUMENT.format(
            serial=self._serial,
            time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            volts=self._random.uniform(225.0, 235.0),
            grid=mark,
            injected=self._random.uniform(0.0, 500.0),
            own=STEP_W * self.count,
        ).encode()

    def number_of(self, body: bytes) -> int | None:
        """The number of the reading that a program wrote; None if it is none of ours, or not in the form asked for."""
        try:
            metric = json.loads(body)
        except (ValueError, RecursionError):
            return None
        fields = metric.get("fields") if isinstance(metric, dict) else None
        if (
            not isinstance(fields, dict)
            or not metric.get("timestamp")
            or not isinstance(metric.get("device_name"), str)
        ):
            return None
        own, mark = _number(fields.get(NUMBERED)), _number(fields.get(MARKED))
        if own is None or mark is None or not 0 < own <= STEP_W * self.count or own % STEP_W:
            return None
        number = int(own / STEP_W)
        return number if self._marks[number - 1] == mark else None


def _number(value: object) -> float | None:
    """JSON's numbers as they are, and no others."""
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e12:  # far above any of ours
        return None
    return float(value)
