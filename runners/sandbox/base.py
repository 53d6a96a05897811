"""What a sandbox is: one command, its limits, and what came out of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, SIGXCPU, SIGXFSZ
from typing import TYPE_CHECKING, Literal, Protocol, Self

from runners.errors import RunnersError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MIB = 1024 * 1024
BOX = Path("/box")

Status = Literal["ok", "nonzero", "signal", "time_limit", "memory_limit", "output_limit", "process_limit"]


class SandboxUnavailable(RunnersError):  # noqa: N818 - reads as the state of the machine it reports
    """This machine gives no isolation; `hint` holds the one command that mends it."""


class SandboxFailed(RunnersError):  # noqa: N818 - the sandbox failed, not the program in it
    """One run could not be set up (outcome `sandbox_start`); the command never ran."""


class SandboxStuck(SandboxFailed):
    """The command has ended, but the kernel did not let its sandbox end."""


@dataclass(frozen=True)
class Limits:
    """What one run may use.

    Attributes:
        wall_s: Wall-clock seconds, start-up of the sandbox included.
        cpu_s: CPU seconds of any one process.
        memory_bytes: Memory of all processes of the run together: private, shared, swapped, in /tmp and in sockets.
        output_bytes: Standard output and standard error, each.
        file_bytes: Any one file, all of the work directory together, and all of /tmp.
        processes: Processes and threads alive at once.
        files: Files and folders in the work directory, and in /tmp.
        address_space_bytes: Virtual memory of any one process, or None; runtimes that reserve far more than they
            use (Go, Node, sanitizers) cannot start under a small one.
    """

    wall_s: float = 10.0
    cpu_s: float = 10.0
    memory_bytes: int = 512 * MIB
    output_bytes: int = 1 * MIB
    file_bytes: int = 64 * MIB
    processes: int = 64
    files: int = 10_000
    address_space_bytes: int | None = None


@dataclass(frozen=True)
class Completed:
    """How a run ended.

    Attributes:
        exit_code: The command's exit status, or None where a signal or a limit ended it.
        signal: The signal that ended the command, or None.
        stdout: At most `Limits.output_bytes` of it.
        stderr: At most `Limits.output_bytes` of it.
        status: `ok` (exit 0), `nonzero`, `signal`, or the limit that was reached.
        wall_s: Wall-clock seconds, start-up of the sandbox included.
        idle: Whether its time ran out while it had hardly any CPU time: it waited, or it was stopped from outside.
    """

    exit_code: int | None
    signal: int | None
    stdout: bytes
    stderr: bytes
    status: Status
    wall_s: float
    idle: bool = False

    @classmethod
    def of(
        cls,
        stdout: bytes,
        stderr: bytes,
        *,
        exit_code: int | None,
        signal: int | None,
        limit: Status | None,
        wall_s: float,
        idle: bool = False,
    ) -> Self:
        """The record of a run that ended for `limit`, by `signal`, or with `exit_code`.

        One that ended without any of the three was ended by the kernel, with everything around it.
        """
        if limit is not None:
            return cls(None, None, stdout, stderr, limit, wall_s, idle)
        if exit_code is not None:
            return cls(exit_code, None, stdout, stderr, "nonzero" if exit_code else "ok", wall_s)
        number = SIGKILL if signal is None else int(signal)
        by_limit: dict[int, Status] = {SIGXCPU: "time_limit", SIGXFSZ: "output_limit"}
        return cls(None, number, stdout, stderr, by_limit.get(number, "signal"), wall_s)


@dataclass(frozen=True)
class View:
    """What of the host a run sees besides the system folders (/usr and what belongs to it), always read-only.

    Attributes:
        read_only: Host paths that appear at the same place.
        hidden: Paths below those, or below the system folders, that appear as empty folders.
        placed: Pairs of a host file and where it appears, in the work directory for instance; what is there can
            neither be changed nor moved nor removed from inside.
    """

    read_only: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    placed: tuple[tuple[Path, Path], ...] = ()


DEFAULT_LIMITS = Limits()
SYSTEM_ONLY = View()


class Sandbox(Protocol):
    """Runs one command at a time, each in an isolation of its own; safe to call from several threads.

    Attributes:
        isolation: What holds the program, as the result row records it: `bubblewrap` or `namespaces`, and after it what
            this machine has besides (`namespaces+landlock+seccomp`).
    """

    isolation: str

    def run(
        self,
        argv: Sequence[str],
        *,
        workdir: Path,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        view: View = SYSTEM_ONLY,
    ) -> Completed:
        """Run `argv` with `workdir` (the only writable folder) at `BOX`, without network, and wait for its end.

        Args:
            argv: Command and arguments; the command is an absolute path as seen inside.
            workdir: A folder of the host; what the command writes there stays.
            stdin: Bytes on standard input; None: at its end from the start.
            env: The whole environment, nothing is inherited.
            limits: What the run may use.
            view: What else it sees.

        A command that is not there ends with exit code 127, as in a shell, and one that cannot be started with these
        arguments, or in what a program before it has made of `workdir`, with 126.

        Raises:
            SandboxFailed: The sandbox could not be set up; the command was not started.
        """
        ...


def called(kind: str, **walls: bool) -> str:
    """`Sandbox.isolation`: the kind and those of `walls` that are there."""
    return "+".join([kind, *(name for name, is_there in walls.items() if is_there)])
