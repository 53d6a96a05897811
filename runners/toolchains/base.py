"""What a toolchain is: programs of the host that work inside a sandbox, with what they need to see there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from runners.errors import RunnersError
from runners.sandbox.base import DEFAULT_LIMITS, Limits, Sandbox, View

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from runners.sandbox.base import Completed


class ToolchainError(RunnersError):
    """A toolchain that a machine said it has cannot be used: the machine's failure (outcome `sandbox_start`)."""

    outcome = "sandbox_start"


@dataclass(frozen=True)
class Toolchain:
    """A toolchain that has worked inside a sandbox.

    Attributes:
        name: The language's.
        version: In a line, for the log.
        program: What builds; an absolute path, the same inside and outside.
        view: What of the host it needs, all of it read-only.
        environment: The whole environment that it runs in.
        limits: What one build may use.
        prepare: Called with the folder before each run, on the host.
    """

    name: str
    version: str
    program: Path
    view: View
    environment: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = DEFAULT_LIMITS
    prepare: Callable[[Path], None] | None = None

    def run(
        self, sandbox: Sandbox, arguments: Sequence[str], *, workdir: Path, limits: Limits | None = None
    ) -> Completed:
        """Runs it in `workdir`; see `Sandbox.run`."""
        if self.prepare is not None:
            self.prepare(workdir)
        return sandbox.run(
            [str(self.program), *arguments],
            workdir=workdir,
            env=self.environment,
            limits=limits or self.limits,
            view=self.view,
        )


class Provider(Protocol):
    """Finds the toolchain of one language on this machine."""

    @property
    def language(self) -> str:
        """As in `Exam.language`."""
        ...

    @property
    def needs(self) -> frozenset[str]:
        """What a machine must have for it (`profiles.probe.needs`): known, with the command that mends its absence,
        before anything is generated.
        """
        ...

    def open(self, sandbox: Sandbox) -> Toolchain:
        """The toolchain, its caches warm, once it has built and run something inside.

        Looked for and tried once a process for each kind of sandbox.

        Raises:
            ToolchainError: It is not there, or does not work inside.
            SandboxFailed: The sandbox could not be started.
        """
        ...
