"""Tries every attack of every module in this folder and prints, by category, how many were tried and how many held.

`python -m tests.attacks [WORD ...]` tries those whose category or name holds one of the words. It ends with 1 where one
got through.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.attacks import NotHereError

if TYPE_CHECKING:
    from tests.attacks.attack import Attack


def collected() -> list[Attack]:
    """The attacks of every module that has some, in the order of the modules' names."""
    found: list[Attack] = []
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if not path.stem.startswith(("_", "test_")):
            found += getattr(import_module(f"tests.attacks.{path.stem}"), "ATTACKS", [])
    return found


def outcome(attack: Attack) -> str | None:
    """What `attack` got, None if it held.

    Raises:
        NotHereError: There is nothing here that it could be tried on.
    """
    with tempfile.TemporaryDirectory(prefix="quantsweep-attack-", ignore_cleanup_errors=True) as folder:
        try:
            return attack.attempt(Path(folder))
        except NotHereError:
            raise
        except Exception as error:  # an attack that ends by surprise was not held
            return f"{type(error).__name__}: {error}"


def main(words: list[str]) -> int:
    console = Console(highlight=False)
    attacks = [
        attack
        for attack in collected()
        if not words or any(word in f"{attack.category} {attack.name}" for word in words)
    ]
    tried, held, absent = Counter[str](), Counter[str](), Counter[str]()
    through: list[str] = []
    began = time.monotonic()
    for attack in attacks:
        if console.is_terminal:
            console.print(f"[dim]{escape(attack.category)}: {escape(attack.name)}[/]", end="\r", overflow="crop")
        try:
            got = outcome(attack)
        except NotHereError as error:
            absent[f"{attack.category}: {error}"] += 1
            continue
        tried[attack.category] += 1
        held[attack.category] += got is None
        if got is not None:
            through.append(f"{attack.category}: {attack.name}: {got}")
    table = Table("attacks", "tried", "held", box=None, pad_edge=False)
    for category in tried:
        table.add_row(escape(category), str(tried[category]), str(held[category]))
    table.add_row("all", str(tried.total()), str(held.total()), style="bold")
    console.print(table)
    for line, count in absent.items():
        console.print(f"not tried here ({count}): {line}", markup=False)
    for line in through:
        console.print(f"NOT HELD {line}", markup=False, soft_wrap=True)
    console.print(f"{time.monotonic() - began:.0f} s", markup=False)
    return 1 if through or not tried else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
