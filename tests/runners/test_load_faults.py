"""What may befall an engine while it loads, each really done to it: killed, stopped, out of memory, without a port."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING, Any

import pytest

from runners.engines import get_engine
from runners.engines import llama_server as llama_server_module
from runners.engines.base import LoadError
from runners.engines.settings import LlamaServerSettings
from runners.outcomes import Outcome
from tests.runners.conftest import REAL_LLAMA_SERVER
from tests.runners.models import settings_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runners.engines.base import Engine

pytestmark = pytest.mark.fault


def failed(
    engine: Engine, model: Path, folder: Path, on_spawn: Callable[[int], None] | None = None, **settings: Any
) -> LoadError:
    chosen = settings_for(engine, **{"context": 256, "threads": 1, **settings})
    with pytest.raises(LoadError) as caught:
        engine.load(model, chosen, log_path=folder / "server.log", on_spawn=on_spawn)
    assert not list(folder.glob("*.server.json"))
    return caught.value


def test_one_that_somebody_kills(engine: Engine, tiny_model: Path, tmp_path: Path) -> None:
    """Not for want of memory: the kernel would have counted that."""
    error = failed(engine, tiny_model, tmp_path, lambda pid: os.kill(pid, signal.SIGKILL))
    assert (error.reason, error.outcome, error.refused_by) == ("exited", Outcome.LOAD_CRASH, "")
    assert "killed (signal 9), and not by the kernel" in error.message


def test_one_that_is_stopped(engine: Engine, tiny_model: Path, tmp_path: Path, hasty: None) -> None:
    error = failed(engine, tiny_model, tmp_path, lambda pid: os.kill(pid, signal.SIGSTOP))
    assert (error.reason, error.outcome, error.refused_by) == ("stopped", Outcome.LOAD_STALLED, "")
    assert "log" in error.message


def wrapped(folder: Path, program: str, before: str) -> str:
    script = folder / "llama-server"
    script.write_text(f'#!/bin/sh\ncase " $* " in *" --model "*) {before} ;; esac\nexec "{program}" "$@"\n')
    script.chmod(0o755)
    return str(script)


def test_one_that_gets_no_memory(tiny_model: Path, llama_server: Path, tmp_path: Path) -> None:
    """Address space for itself and not for a cache of 6 GB."""
    program = wrapped(tmp_path, REAL_LLAMA_SERVER or str(llama_server), "ulimit -v 6000000")
    engine = get_engine("llama-server", binary=program)
    error = failed(engine, tiny_model, tmp_path, context=25_000_000)
    assert (error.reason, error.outcome, error.refused_by) == ("out_of_memory", Outcome.OUT_OF_MEMORY, "")
    assert "allocate" in error.message


def test_one_that_finds_every_port_taken(
    llama_server: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        monkeypatch.setattr(llama_server_module, "_free_port", lambda: port)
        monkeypatch.setattr(llama_server_module, "_PORT_ATTEMPTS", 2)
        engine = get_engine("llama-server", binary=REAL_LLAMA_SERVER or str(llama_server))
        error = failed(engine, tiny_model, tmp_path)
    assert (error.reason, error.outcome, error.refused_by) == ("port_taken", Outcome.PORT_TAKEN, "")
    assert "2 times" in error.message
    assert "couldn't bind" in error.message


def test_a_flag_that_the_build_does_not_have(llama_server: Path, tiny_model: Path, tmp_path: Path) -> None:
    engine = get_engine("llama-server", binary=REAL_LLAMA_SERVER or str(llama_server))
    settings = LlamaServerSettings(context=256, extra_args=("--no-such-flag",))
    with pytest.raises(LoadError, match="no-such-flag") as caught:
        engine.load(tiny_model, settings, log_path=tmp_path / "server.log")
    error = caught.value
    assert (error.reason, error.outcome, error.refused_by) == ("bad_settings", Outcome.REFUSED_SETTINGS, "program")
