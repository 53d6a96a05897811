"""The attacks on the sandbox hold: the quick ones here, all of them with QUANTSWEEP_SLOW=1 or by `make attacks`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.attacks import NotHereError, __main__, sandbox
from tests.attacks.attack import Attack
from tests.attacks.sandbox_worker import KERNEL, REACH

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLOW = bool(os.environ.get("QUANTSWEEP_SLOW"))
# One of each kind that takes a start of its own.
QUICK = {
    "a program locks its folder and all in it",
    "a program nests folders deeper than a path can say",
    "a program puts a full folder where its program belongs",
    "a program is asked for 200,000 digits that it printed",
    "a program writes a report into process 1's descriptors",
    "a program stops process 1 by tracing it",
    "a program puts a link out of its folder",
    "shared mappings, let go of page by page",
    "private memory after the leading thread has ended",
    "page tables",
    "buffers of TCP connections",
    "a hundred thousand empty files in /tmp",
    "removed files that are open",
    "removed files that are only mapped",
    "removed files of a program that nobody may read",
    "files in locked folders",
    "space beyond the end of a file (fallocate)",
    "threads",
}
# Each kind of sandbox once; as root, for which files and limits are looser, and as an ordinary user.
CONFIGURATIONS = ("(bubblewrap, ordinary user)", f"(namespaces, {sandbox.users()[0]})")


def is_quick(attack: Attack) -> bool:
    if attack.category.startswith((KERNEL, REACH)):
        return True  # one start for all of them
    return attack.name in QUICK and attack.category.endswith(CONFIGURATIONS)


@pytest.fixture(scope="module", autouse=True)
def workers() -> Iterator[None]:
    yield
    sandbox.end_workers()


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(attack, id=f"{attack.category}: {attack.name}", marks=() if is_quick(attack) else pytest.mark.slow)
        for attack in sandbox.ATTACKS
        if SLOW or is_quick(attack)
    ],
)
def test_it_holds(attack: Attack, tmp_path: Path) -> None:
    try:
        got = attack.attempt(tmp_path)
    except NotHereError as error:
        pytest.skip(f"this attack cannot be tried here: {error}")
    assert got is None


def test_every_quick_attack_exists() -> None:
    assert not QUICK - {attack.name for attack in sandbox.ATTACKS}


@pytest.fixture
def some(monkeypatch: pytest.MonkeyPatch) -> list[Attack]:
    attacks: list[Attack] = []
    monkeypatch.setattr(__main__, "collected", lambda: attacks)
    return attacks


def absent(folder: Path) -> str | None:
    raise NotHereError("no bwrap")


def broken(folder: Path) -> str | None:
    raise ValueError("by surprise")


def test_the_table_counts_what_was_tried_and_held(some: list[Attack], capsys: pytest.CaptureFixture[str]) -> None:
    some += [Attack("files", "one", lambda folder: None), Attack("files", "two", absent)]
    assert __main__.main([]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["files", "1", "1"] in lines
    assert ["not", "tried", "here", "(1):", "files:", "no", "bwrap"] in lines


def test_what_got_through_is_named_and_fails_the_command(
    some: list[Attack], capsys: pytest.CaptureFixture[str]
) -> None:
    some += [Attack("files", "one", lambda folder: f"it read [{folder.name}]"), Attack("memory", "two", broken)]
    assert __main__.main([]) == 1
    said = capsys.readouterr().out
    assert "NOT HELD files: one: it read [quantsweep-attack-" in said
    assert "NOT HELD memory: two: ValueError: by surprise" in said
    assert __main__.main(["nothing of the kind"]) == 1
