"""The answers that prove the todo grader: a reference, mutants of it, cheats, and the three published kinds."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

from runners.exams.base import Specimen

# What the report's three kinds of program scored: one that works, an interactive menu, one cut off at its token limit.
_PUBLISHED = {"works": 100.0, "menu": 60.0, "cut_off": 28.0}


def specimens() -> list[Specimen]:
    """All of them, the reference first."""
    reference = _read("reference.py.txt")
    found = [Specimen("reference", "reference", reference)]
    found += [
        Specimen(name, "published", _read(f"{name}.py.txt"), bounds={"published": score})
        for name, score in _PUBLISHED.items()
    ]
    found += [
        Specimen(name, "mutant", _mutated(name, reference, mutant), loses=tuple(mutant["loses"]))
        for name, mutant in tomllib.loads(_read("mutants.toml")).items()
    ]
    found += [
        Specimen(name, "cheat", cheat["program"], bounds=dict(cheat["most"]))
        for name, cheat in tomllib.loads(_read("cheats.toml")).items()
    ]
    return found


def _mutated(name: str, reference: str, mutant: dict[str, Any]) -> str:
    """The reference with one passage, and what hangs together with it, replaced.

    Raises:
        ValueError: A passage is not in the reference exactly once; then the mutant would prove nothing.
    """
    text = reference
    for old, new in ((mutant["find"], mutant["replace"]), *mutant.get("more", [])):
        if text.count(old) != 1:
            raise ValueError(f"mutant {name}: {old!r} is in the reference {text.count(old)} times")
        text = text.replace(old, new)
    return text


def _read(name: str) -> str:
    return files("runners.exams.todo").joinpath("programs", name).read_text(encoding="utf-8")
