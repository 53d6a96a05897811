"""The toolchain of each language that programs of exams are written in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runners.toolchains.go import Go
from runners.toolchains.local import CXX, NODE, RUST, C, Python

if TYPE_CHECKING:
    from runners.toolchains.base import Provider


def provider_of(language: str) -> Provider:
    """What finds the toolchain of a language (`Exam.language`).

    Raises:
        KeyError: no programs are run in it.
    """
    providers: tuple[Provider, ...] = (Python(), C, CXX, NODE, RUST, Go())
    return {each.language: each for each in providers}[language]
