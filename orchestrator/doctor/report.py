"""A diagnosis as a page: what is off first, then all findings, then a block for a bug report that names nobody."""

from __future__ import annotations

import getpass
import itertools
import platform
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.doctor.findings import Diagnosis, Finding
    from orchestrator.terminal import Part
    from profiles.types import NodeProfile

_UUID: Final = re.compile(r"\b(?P<kind>GPU|MIG)-[0-9a-fA-F][0-9a-fA-F-]{6,40}")
_HOMES: Final = re.compile(r"/(?:home|Users)/[^/\s:'\"]{1,64}")
_MARKS: Final = {"ok": "ok", "note": "note", "off": "OFF"}
_SHORTEST_NAME: Final = 3
_ORDINARY: Final = frozenset({"root", "user", "users", "host", "localhost", "linux", "cpu", "gpu", "server", "admin"})
"""Names of hosts and users that say nothing of anybody, and are words that findings need."""


def render(diagnosis: Diagnosis) -> list[Part]:
    """The page for a person."""
    from rich.text import Text

    parts: list[Part] = [*(_entry(each) for each in diagnosis.findings), ""]
    if diagnosis.off:
        count = len(diagnosis.off)
        parts.append(Text(f"{count} thing{'s are' if count > 1 else ' is'} off:", style="bold"))
        for each in diagnosis.off:
            parts.append(Text.assemble(("  - ", "red"), f"{each.about}: {each.said}"))
            if each.cure:
                parts.append(Text(f"    mend it: {each.cure}"))
    else:
        parts.append(Text(f"Nothing is off ({diagnosis.seconds:.0f} s).", style="bold"))
    return [*parts, "", Text("For a bug report (no names of hosts or users in it):"), *block(diagnosis)]


def to_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """The findings and the machine, for programs; names and paths in it are as they are."""
    return {
        "off": len(diagnosis.off),
        "seconds": round(diagnosis.seconds, 3),
        "findings": [asdict(each) for each in diagnosis.findings],
        "profile": None if diagnosis.profile is None else diagnosis.profile.to_dict(),
    }


def block(diagnosis: Diagnosis) -> list[str]:
    """Lines to paste: versions, devices, engines, matches and findings, without names, home folders and serials."""
    from importlib.metadata import version

    hide = hider(diagnosis.profile)
    lines = ["```", f"quantsweep {version('quantsweep')}, Python {platform.python_version()}"]
    if (profile := diagnosis.profile) is not None:
        lines.append(f"{profile.os} {profile.arch}, {profile.cpu_model or '?'}, {profile.cores_usable or '?'} cores")
        for device in profile.devices:
            size = "?" if device.memory_total_bytes is None else f"{device.memory_total_bytes / 2**30:.1f} GiB"
            lines.append(f"{device.id}: {device.name}, {device.kind}, {size}, driver {device.driver or '-'}")
        for engine in profile.engines:
            lines.append(f"{engine.kind}: {engine.build or '?'}, from {engine.origin or 'the package'}")
            for entry in engine.devices:
                total = "?" if entry.memory_total_bytes is None else f"{entry.memory_total_bytes >> 20} MiB"
                lines.append(f"  lists {entry.name}: {entry.description} ({total})")
            for match in engine.matches:
                variables = f" [{' '.join(match.visible)}]" if match.visible else ""
                lines.append(f"  {match.device_id} = {match.name or 'none'}, {match.how}{variables}")
    lines += [f"{_MARKS[each.state]:5}{each.about}: {each.said}" for each in diagnosis.findings]
    return [*(hide(line) for line in lines), "```"]


def hider(profile: NodeProfile | None) -> Callable[[str], str]:
    """A function that takes the names of this machine and its user, home folders and serial numbers out of a text."""
    hosts = {platform.node(), *([profile.hostname] if profile is not None else [])}
    names = {part for host in hosts for part in (host, host.split(".", maxsplit=1)[0])}
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user id without a name
        user = ""
    words = [(str(Path.home()), "~")] if len(Path.home().parts) > 1 else []
    words += [(name, "HOST") for name in sorted(names, key=len, reverse=True) if _tells(name)]
    words += [(user, "USER")] if _tells(user) else []

    def hide(text: str) -> str:
        for word, instead in words:
            text = _replaced(text, word, instead)
        return _UUID.sub(r"\g<kind>-...", _HOMES.sub("~", text))

    return hide


def _replaced(text: str, word: str, instead: str) -> str:
    """The text with `instead` wherever `word` stands by itself, and not as a part of another."""
    pieces = text.split(word)
    found = pieces[0]
    for before, after in itertools.pairwise(pieces):
        alone = not (before[-1:].isalnum() or after[:1].isalnum())
        found += (instead if alone else word) + after
    return found


def _tells(name: str) -> bool:
    return len(name) >= _SHORTEST_NAME and name.lower() not in _ORDINARY


def _entry(finding: Finding) -> Part:
    from rich.text import Text

    style = {"ok": "green", "note": "yellow", "off": "bold red"}[finding.state]
    cure = f" ({finding.cure})" if finding.cure and finding.state == "note" else ""
    return Text.assemble((f"{_MARKS[finding.state]:5}", style), f"{finding.about}: {finding.said}{cure}")


def page(diagnosis: Diagnosis, *, as_json: bool) -> Sequence[Part]:
    """What the command prints."""
    from orchestrator.terminal import Json

    return [Json(to_json(diagnosis))] if as_json else render(diagnosis)
