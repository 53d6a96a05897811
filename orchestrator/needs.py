"""What the exams of a sweep need of a machine, and which of its jobs a machine without it is not given."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from profiles.types import FoundNeed, NodeProfile
    from runners.exams.base import Exam


def needs_of(exams: Iterable[str], folders: Mapping[str, Exam] | None = None) -> dict[str, frozenset[str]]:
    """What each of the exams needs; `folders` has those that are not ours.

    Raises:
        UnknownExam: there is no exam of that name.
    """
    from runners.exams import get_exam

    return {name: get_exam(name, folders).needs for name in exams}


def names_of(needs: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    """The names of all needs, each once."""
    return tuple(sorted(frozenset().union(*needs.values())))


def lacking(profile: NodeProfile, needs: Mapping[str, frozenset[str]]) -> dict[str, str]:
    """The needs that the machine does not have, each with a sentence that says how to mend it."""
    found = {}
    for name in names_of(needs):
        need = profile.need(name)
        if need is None:
            found[name] = f"{profile.hostname}: whether it has {name} was not asked"
        elif need.found is None:
            found[name] = f"{profile.hostname}: {need.sentence}"
    return found


def not_given(missing: Mapping[str, str], needs: Mapping[str, frozenset[str]]) -> list[str]:
    """What a person is told of a machine that lacks something: whose jobs it is not given, and why."""
    lines = []
    for exam, needed in needs.items():
        if said := [sentence for name, sentence in missing.items() if name in needed]:
            lines.append(f"it is given no jobs of the exam {exam}: {'; '.join(said)}")
    return lines


def why_refused(exam: str, found: Iterable[FoundNeed]) -> str | None:
    """Why an exam cannot be run on this machine, with the commands that mend it; None where it can."""
    said = [need.sentence for need in found if need.found is None]
    return f"exam {exam!r} cannot be run here: {'; '.join(said)}" if said else None
