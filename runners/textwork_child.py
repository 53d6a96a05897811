"""The process in which texts that nobody vouches for are worked on: one request after the other, each under limits.

Run as a program of its own, standard library only, by `runners.textwork`: `python -I -S textwork_child.py OWNER_PID
FOLDER CPU_S MEMORY_BYTES`, where FOLDER is where `runners` is imported from. Requests come on descriptor 0, answers go
to descriptor 1, each as four bytes of length and that much JSON.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import struct
import sys
from types import ModuleType
from typing import Any

MEMORY_EXIT_CODE = 12  # ENOMEM: there was not even room for the answer
_PR_SET_PDEATHSIG = 1
_LENGTH = struct.Struct(">I")
_OPEN_FILES = 32


def encode(message: Any) -> bytes:
    """`message` as it goes over the pipe. Half a surrogate pair is text too, and stays what it is."""
    body = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return _LENGTH.pack(len(body)) + body


def decode(body: bytes) -> Any:
    """What `encode` made, without the length."""
    return json.loads(body.decode("utf-8", "surrogatepass"))


def body_length(head: bytes) -> int:
    """How long the message is that begins with these four bytes."""
    length: int = _LENGTH.unpack(head)[0]
    return length


HEAD_BYTES = _LENGTH.size


def _end_with(owner: int) -> None:
    """Be killed when the owner's thread that started us ends; it lives as long as the owner (runners.sandbox.spawner).

    Besides, our input ends when the owner does; but that is seen only between two requests, and not while stopped.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != owner:
        sys.exit(0)


def _limit(memory_bytes: int) -> None:
    for name, most in (
        ("RLIMIT_AS", memory_bytes),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_FSIZE", 0),
        ("RLIMIT_NOFILE", _OPEN_FILES),
    ):
        resource.setrlimit(getattr(resource, name), (most, most))


def _read(source: int, count: int) -> bytes | None:
    """The next `count` bytes, or None where the input has ended."""
    parts = []
    while count:
        part = os.read(source, count)
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _write(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]


def _answer(request: Any, cpu_s: float) -> dict[str, Any]:
    """What came of a request: its `value`; or why there is none, under `broken` (ours), `memory` or `raised`."""
    module, name, arguments, folders = request
    try:
        if folders and (package := module.partition(".")[0]) not in sys.modules:
            sys.modules[package] = ModuleType(package)
            sys.modules[package].__path__ = folders
        work = getattr(importlib.import_module(module), name)
    except Exception as error:  # a broken installation; the owner says so
        return {"broken": f"{type(error).__name__}: {error}"}
    try:
        # The signal's default action ends the process, in the middle of a match too: a handler would wait for its end.
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        return {"value": work(*arguments)}
    except MemoryError:
        return {"memory": True}
    except Exception as error:  # the text's doing; the owner scores it
        return {"raised": f"{type(error).__name__}: {error}"[:500]}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def serve(owner: int, folder: str, cpu_s: float, memory_bytes: int) -> None:
    """Answer requests until the input ends."""
    _end_with(owner)
    sys.path.append(folder)
    source, target = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    _limit(memory_bytes)
    _write(target, encode({"ready": os.getpid()}))
    while (head := _read(source, HEAD_BYTES)) is not None:
        body = _read(source, body_length(head))
        if body is None:
            return
        try:
            answer = encode(_answer(decode(body), cpu_s))
        except MemoryError:
            os._exit(MEMORY_EXIT_CODE)
        _write(target, answer)


if __name__ == "__main__":
    try:
        serve(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
    except (BrokenPipeError, KeyboardInterrupt):
        sys.exit(0)
