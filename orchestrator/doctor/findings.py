"""What a check found: whether it is as it should be, a sentence, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from profiles.types import NodeProfile

State = Literal["ok", "note", "off"]
"""``note``: worth knowing, and nothing that has to be mended. ``off``: something is wrong."""


@dataclass(frozen=True, slots=True)
class Finding:
    """``about`` is what was looked at (an engine, a device, an exam), ``cure`` what mends it; "" where nothing need."""

    state: State
    about: str
    said: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, in the order they were made, and the machine they are about; None if it could not be looked at."""

    findings: tuple[Finding, ...]
    profile: NodeProfile | None = None
    seconds: float = 0.0
    off: tuple[Finding, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "off", tuple(each for each in self.findings if each.state == "off"))
