"""Ray takes SIGTERM for itself while it is started; that it came is still told as every other signal is."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from orchestrator.cluster import connection

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class PlayedRay:
    """A Ray whose start takes SIGTERM for itself, as ray._private.node does."""

    comes: bool = False  # the signal, while it is started
    closed: int = 0

    def init(self, **_: object) -> None:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
        if self.comes:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedRay]:
    played = PlayedRay()

    def close(ray: PlayedRay, *, local: bool) -> None:
        ray.closed += local

    monkeypatch.setattr(connection, "_ray", lambda: played)
    monkeypatch.setattr(connection, "_options", dict)
    monkeypatch.setattr(connection, "_silence", lambda _: None)
    monkeypatch.setattr(connection, "_close", close)
    monkeypatch.setattr(connection, "prepare_for_own_cluster", lambda _: None)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield played
    signal.signal(signal.SIGTERM, before)


def test_after_the_start_the_signal_is_ours_again(ray: PlayedRay, tmp_path: Path) -> None:
    connection._start(tmp_path)
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    assert not ray.closed


def test_during_the_start_it_is_an_interruption_and_ray_is_closed(ray: PlayedRay, tmp_path: Path) -> None:
    ray.comes = True
    with pytest.raises(KeyboardInterrupt):
        connection._start(tmp_path)
    assert ray.closed == 1
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
