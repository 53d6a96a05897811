"""The attacks on clusters hold: those without a Ray of their own here, all of them with QUANTSWEEP_SLOW=1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.attacks import cluster

if TYPE_CHECKING:
    from pathlib import Path

    from tests.attacks.attack import Attack

QUICK = ("a link in", "a folder for", "a process of", "a session's folder", "a file of", "a token that other users")


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(attack, id=attack.name, marks=() if attack.name.startswith(QUICK) else pytest.mark.slow)
        for attack in cluster.ATTACKS
    ],
)
def test_it_holds(attack: Attack, tmp_path: Path) -> None:
    assert attack.attempt(tmp_path) is None
