"""Real engines for tests: a tiny model, and each engine that can serve it here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from runners import lastlook, stall
from runners.engines import get_engine, settings_type
from tests.runners import llama_server_program
from tests.runners.tiny_gguf import THINKING, write_tiny_llama

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runners.engines.base import Engine, Served

# The original, besides the program of `llama_server_program`: only where somebody names it.
REAL_LLAMA_SERVER = os.environ.get("LLAMA_SERVER")
ENGINES = ["embedded", "llama-server", *(["llama-server-original"] if REAL_LLAMA_SERVER else [])]


class Serve(Protocol):
    """Loads a model with one thread (the machine's other core is for the client); it is stopped after the test."""

    def __call__(self, model: Path, **settings: Any) -> Served: ...


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules for silence with a tenth or less of the patience, so that a test need not have it."""
    during = {"LOOK_AFTER_S": 0.2, "LOOK_EVERY_S": 0.1, "STOPPED_S": 0.5, "DEAD_S": 1.0, "IDLE_S": 1.5, "UNSEEN_S": 3.0}
    for name, seconds in {**during, "STEP_S": 2.0}.items():
        monkeypatch.setattr(stall, name, seconds)
    for name, seconds in {"LOOK_EVERY_S": 0.1, "STOPPED_S": 0.3, "IDLE_S": 0.4, "WAIT_S": 1.0}.items():
        monkeypatch.setattr(lastlook, name, seconds)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="session")
def thinking_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("models") / "thinking.gguf", chat_template=THINKING)


@pytest.fixture(scope="session")
def stand_in() -> Path:
    """The model of the quickstart: its answers begin with a program, whatever is asked."""
    from importlib.resources import files
    from pathlib import Path

    import quants.standin

    return Path(str(files(quants.standin))) / "standin-Q8_0.gguf"


@pytest.fixture(scope="session")
def llama_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama_server_program.install(tmp_path_factory.mktemp("bin"))


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest, llama_server: Path) -> Engine:
    if request.param == "embedded":
        return get_engine("embedded")
    return get_engine("llama-server", binary=REAL_LLAMA_SERVER if "original" in request.param else str(llama_server))


@pytest.fixture(scope="module")
def serve(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    started: list[Served] = []

    def start(model: Path, **settings: Any) -> Served:
        chosen = settings_type(engine.kind)(**{"context": 1024, "threads": 1, **settings})
        log_path = tmp_path_factory.mktemp("log") / "server.log"
        started.append(engine.load(model, chosen, log_path=log_path))
        return started[-1]

    yield start
    for served in started:
        served.stop()


@pytest.fixture(scope="module")
def served(serve: Serve, tiny_model: Path) -> Served:
    """One loaded tiny model for all tests of a module that leave it alive."""
    return serve(tiny_model)
