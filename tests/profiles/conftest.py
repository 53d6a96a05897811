"""Other people's machines for the probes: folders that play /proc and /sys, programs, and NVML with cards of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from profiles.probe.system import System
from tests.profiles.nvml import build as nvml_build

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Machine:
    """A machine made of files under ``root``."""

    root: Path

    @property
    def system(self) -> System:
        return System(root=self.root, search_path=str(self.root / "bin"))

    def write(self, files: dict[str, str | bytes | int]) -> None:
        for name, content in files.items():
            path = self.root / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else f"{content}\n".encode())

    def link(self, name: str, target: str) -> None:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    def program(self, name: str, script: str) -> Path:
        path = self.root / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    root = tmp_path / "machine"
    (root / "bin").mkdir(parents=True)
    return Machine(root)


WORKER = """
import io, json, sys, contextlib, traceback
for line in sys.stdin:
    script, sys.argv = (lambda order: (order[0], order))(json.loads(line))
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            exec(script, {"__name__": "__main__"})
        answer = json.loads(out.getvalue())
    except BaseException:
        answer = {"__error__": traceback.format_exc()}
    print(json.dumps(answer), flush=True)
"""


class FakeNvml:
    """A Python process whose NVML is the library that plays it, and the file that says what it shows.

    The real ``nvidia-ml-py`` loads the library through the dynamic loader, as it would NVIDIA's.
    """

    def __init__(self, library: Path, config: Path) -> None:
        self.config = config
        environment = nvml_build.environment(library, config)
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        command = [sys.executable, "-W", "error", "-c", WORKER]
        self._worker = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def show(self, *cards: dict[str, Any], **system: Any) -> None:
        nvml_build.write(self.config, list(cards), **system)

    def python(self, script: str, *arguments: str) -> Any:
        """Run Python there and return the JSON that it prints."""
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        self._worker.stdin.write(json.dumps([script, *arguments]) + "\n")
        self._worker.stdin.flush()
        answer = json.loads(self._worker.stdout.readline())
        assert not (isinstance(answer, dict) and "__error__" in answer), answer["__error__"]
        return answer

    def probe(self) -> dict[str, Any]:
        return self.python(  # type: ignore[no-any-return]  # JSON
            "import json; from profiles.override import Override; from profiles.probe import probe_node;"
            "print(json.dumps(probe_node(engines=False, override=Override()).to_dict()))"
        )

    def close(self) -> None:
        self._worker.communicate()


@pytest.fixture(scope="session")
def nvml_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeNvml]:
    if nvml_build.compiler() is None:
        pytest.skip("no C compiler: the library that plays NVML cannot be built")
    folder = tmp_path_factory.mktemp("nvml")
    worker = FakeNvml(nvml_build.build(folder), folder / "cards.conf")
    yield worker
    worker.close()


@pytest.fixture
def nvml(nvml_worker: FakeNvml) -> FakeNvml:
    nvml_worker.show()
    return nvml_worker


class Allocator:
    """A real process that takes and frees memory when it is told to."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "allocator.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid
        self.tell("ready")

    def tell(self, order: str) -> str:
        """Give an order and wait until it is done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def allocator() -> Iterator[Allocator]:
    process = Allocator()
    yield process
    process.close()
