"""What is being done is said where it takes long, and never in front of a mistake that is found at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from orchestrator import late
from orchestrator.cli.app import app
from orchestrator.errors import SpecError
from orchestrator.late import said_late

if TYPE_CHECKING:
    from pathlib import Path

SPEC = 'name="x"\nseeds=[1]\nexams=["{exam}"]\n[[models]]\nname="a"\nsource="{source}"\n'


def test_what_takes_long_is_said_once_and_before_what_comes_next() -> None:
    heard: list[str] = []
    arrived = threading.Event()

    def say(text: str) -> None:
        heard.append(text)
        arrived.set()

    with said_late(say, "looking", after_s=0.01):
        assert arrived.wait(60)
    heard.append("next")
    assert heard == ["looking", "next"]


def test_what_is_done_soon_is_not_said_even_if_it_fails() -> None:
    heard: list[str] = []
    with pytest.raises(ValueError, match="wrong"), said_late(heard.append, "looking", after_s=3600):
        raise ValueError("wrong")
    assert heard == []


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize(("exam", "source"), [("tod", "builtin:stand-in"), ("todo", "missing.gguf")])
def test_nothing_is_said_before_the_error_of_a_spec(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    exam: str,
    source: str,
) -> None:
    monkeypatch.setattr(late, "LATE_S", 3600)  # however slow this machine is
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text(SPEC.format(exam=exam, source=source))
    with pytest.raises(SpecError):
        app([command, "s.toml"], standalone_mode=False)
    assert capsys.readouterr() == ("", "")
