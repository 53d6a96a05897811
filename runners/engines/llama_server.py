"""The llama-server engine: a llama.cpp server found on the node or named in the spec, started on a loopback port."""

from __future__ import annotations

import socket
import uuid
from typing import TYPE_CHECKING

from profiles.errors import OverrideError
from profiles.override import load_override
from profiles.programs import NotHereError, find_llama_server
from runners.engines.base import (
    EngineInfo,
    EngineUnavailable,
    EngineUnavailableError,
    LoadError,
    Served,
)
from runners.engines.llama_cpp import new_key, server_environment, variables
from runners.engines.llama_flags import command_line
from runners.engines.llama_load import bring_up
from runners.engines.llama_program import Program, examine
from runners.engines.settings import LlamaServerSettings, of_kind
from runners.process import ProcessStartError, ServerProcess
from runners.sandbox.scratch import Scratch

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from runners.engines.base import OnSpawn
    from runners.engines.settings import EngineSettings

KIND = "llama-server"
_PORT_ATTEMPTS = 5


def find_binary(named: str | None) -> Path | EngineUnavailable:
    """The program that `named` (in the spec) or this machine says: see `profiles.programs`."""
    try:
        return find_llama_server(in_spec=named, of_owner=load_override().llama_server).path
    except NotHereError as error:
        return EngineUnavailable(kind=KIND, reason=str(error), hint=error.hint)
    except OverrideError as error:
        return EngineUnavailable(kind=KIND, reason=str(error))


def _free_port() -> int:
    """A port that was free a moment ago; whoever takes it before the server does makes us try another."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LlamaServerEngine:
    """Follows `runners.engines.base.Engine`."""

    kind = KIND

    def __init__(self, *, binary: str | None = None) -> None:
        self._binary = binary

    def available(self) -> EngineInfo | EngineUnavailable:
        """The program's build and devices, asked for once for each version of the file."""
        program = self._examine(self._binary)
        if isinstance(program, EngineUnavailable):
            return program
        return EngineInfo(kind=KIND, build=program.build, devices=program.devices, binary=str(program.path))

    def _examine(self, binary: str | None) -> Program | EngineUnavailable:
        path = find_binary(binary)
        return path if isinstance(path, EngineUnavailable) else examine(path, KIND)

    def load(
        self,
        model: Path,
        settings: EngineSettings,
        *,
        log_path: Path,
        device: str | None = None,
        cancelled: threading.Event | None = None,
        on_spawn: OnSpawn | None = None,
        held: tuple[int, ...] = (),
        visible: tuple[str, ...] = (),
        tensor_split: tuple[float, ...] | None = None,
    ) -> Served:
        """Serve `model`; tries other ports while strangers take the ones it chose."""
        own = of_kind(settings, LlamaServerSettings)
        program = self._examine(own.binary or self._binary)
        if isinstance(program, EngineUnavailable):
            raise EngineUnavailableError(program.reason, program.hint)
        last = f"another program answered at each port that {KIND} was given"
        for _ in range(_PORT_ATTEMPTS):
            try:
                served = _attempt(
                    program,
                    model,
                    own,
                    log_path=log_path,
                    device=device,
                    cancelled=cancelled,
                    on_spawn=on_spawn,
                    held=held,
                    visible=visible,
                    tensor_split=tensor_split,
                )
            except LoadError as error:
                if error.reason != "port_taken":
                    raise
                last = error.message
                continue
            if served is not None:
                return served
        hint = "see what takes ports on 127.0.0.1 so fast"
        raise LoadError(f"{KIND} found its port taken {_PORT_ATTEMPTS} times: {last}", hint=hint, reason="port_taken")


def _attempt(
    program: Program,
    model: Path,
    settings: LlamaServerSettings,
    *,
    log_path: Path,
    device: str | None,
    cancelled: threading.Event | None,
    on_spawn: OnSpawn | None,
    held: tuple[int, ...],
    visible: tuple[str, ...],
    tensor_split: tuple[float, ...] | None,
) -> Served | None:
    """One start; None if another program answers at the port."""
    port = _free_port()
    key = new_key()
    alias = f"quantsweep-{uuid.uuid4().hex}"
    environment = server_environment(key, **variables(visible))
    with Scratch() as texts:  # read while the server starts
        argv = command_line(
            program,
            model,
            settings,
            port=port,
            alias=alias,
            device=device,
            tensor_split=tensor_split,
            texts=texts.path,
        )
        try:
            process = ServerProcess.start(argv, log_path=log_path, environment=environment, held=held)
        except ProcessStartError as error:
            raise EngineUnavailableError(error.message, error.hint) from None
        try:
            if on_spawn is not None:
                on_spawn(process.pid)
            return bring_up(
                process,
                kind=KIND,
                base_url=f"http://127.0.0.1:{port}",
                alias=alias,
                key=key,
                engine_build=program.build,
                settings=settings,
                cancelled=cancelled,
            )
        except BaseException:  # of `on_spawn`: what is started is never left without an owner
            process.stop()
            raise
