"""An owner that is killed takes its engine along: the real engines, a real SIGKILL."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from runners.process import process_identity, reap_orphans

if TYPE_CHECKING:
    from runners.engines.base import Engine

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 30.0

# Loads from a thread that ends at once, as an actor may: what it started must live on, until the process dies.
OWNER = """
    import sys, threading, time
    from pathlib import Path
    from runners.chat import ChatRequest, Message, Sampling
    from runners.engines import get_engine, settings_type

    kind, binary, model, log = sys.argv[1:]
    loaded = []

    def load():
        given = {"binary": binary} if binary else {}
        settings = settings_type(kind)(context=8192, threads=1, **given)
        loaded.append(get_engine(kind).load(Path(model), settings, log_path=Path(log)))

    thread = threading.Thread(target=load)
    thread.start()
    thread.join()
    request = ChatRequest(messages=(Message(role="user", content="hi"),), sampling=Sampling(), seed=1)
    generating = threading.Event()
    threading.Thread(target=loaded[0].chat, args=(request,), kwargs={"on_event": lambda _: generating.set()}).start()
    generating.wait()
    print(loaded[0].pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.fault
def test_killing_the_owner_in_the_middle_of_a_reply(engine: Engine, tiny_model: Path, tmp_path: Path) -> None:
    there = engine.available()
    binary = getattr(there, "binary", None) or ""
    argv = [sys.executable, "-c", textwrap.dedent(OWNER), engine.kind, binary, str(tiny_model), str(tmp_path / "log")]
    owner = subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        server = int(owner.stdout.readline())
        tree = [server, *(process.pid for process in psutil.Process(owner.pid).children(recursive=True))]
        assert len(set(tree)) >= 2
    finally:
        owner.kill()
        owner.wait()
        assert owner.stdout is not None
        owner.stdout.close()
    deadline = time.monotonic() + PATIENCE_S
    while any(process_identity(pid) is not None for pid in tree):
        assert time.monotonic() < deadline, f"of {tree}, something still runs"
        time.sleep(0.01)
    assert reap_orphans(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
