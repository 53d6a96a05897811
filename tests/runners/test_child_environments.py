"""Every kind of program that we start, really started among secrets: none of them is given one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.attacks import secrets

if TYPE_CHECKING:
    from pathlib import Path

    from tests.attacks.attack import Attack

KINDS = [attack for attack in secrets.ATTACKS if attack.name.startswith("environment")]


@pytest.mark.parametrize("attack", KINDS, ids=[attack.name for attack in KINDS])
def test_no_child_is_given_a_secret(attack: Attack, tmp_path: Path) -> None:
    assert attack.attempt(tmp_path) is None


def test_the_attacks_would_see_one(tmp_path: Path) -> None:
    """A child that inherits everything is found out: the attacks look where a secret would be."""
    seen = tmp_path / "seen"
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    secrets._dumping(program, seen)
    done = secrets.among_secrets(["-c", f"import subprocess; subprocess.run([{str(program)!r}])"], tmp_path)
    assert done.returncode == 0
    assert "a child was given" in (secrets._dumped(seen) or "")
