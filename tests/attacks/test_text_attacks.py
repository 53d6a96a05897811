"""The attacks by replies and files hold: a few of each here, all with QUANTSWEEP_SLOW=1 or `make attacks`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.attacks import NotHereError, files, replies

if TYPE_CHECKING:
    from pathlib import Path

    from tests.attacks.attack import Attack

SLOW = bool(os.environ.get("QUANTSWEEP_SLOW"))
QUICK = {
    "dashes behind a fence",
    "`import` and blanks",
    "blank lines",
    "escaped quotes without an end",
    "a program prints months without a day",
    "parentheses 100,000 deep",
    "two thousand files that each claim 99,998 more",
    "sixty links in circles",
    "brackets without an end in what is remembered of digests",
    "brackets without an end in what is remembered of a repository",
}
ALL = [*replies.ATTACKS, *files.ATTACKS]


def test_the_quick_ones_are_there() -> None:
    assert {attack.name for attack in ALL} >= QUICK
    assert len({(attack.category, attack.name) for attack in ALL}) == len(ALL)


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(attack, id=attack.name, marks=() if attack.name in QUICK else pytest.mark.slow)
        for attack in ALL
        if SLOW or attack.name in QUICK
    ],
)
def test_it_holds(attack: Attack, tmp_path: Path) -> None:
    try:
        got = attack.attempt(tmp_path)
    except NotHereError as error:
        pytest.skip(f"this attack cannot be tried here: {error}")
    assert got is None
