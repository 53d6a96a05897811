"""Runs a program through all scenarios, a few side by side, and the build with the race detector beside them."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from runners import textwork
from runners.exams.go.building import Built, build
from runners.sandbox.base import MIB, Limits, View
from runners.sandbox.python import python_runtime
from runners.toolchains.go import NETWORK, PACKAGES, Go

from .flags import Flags, read_flags
from .judging import Runs
from .plans import RACE, plans
from .reading import FILE
from .running import ENVIRONMENT, PROGRAM, Setting
from .scenarios import Plan, Seen, play

if TYPE_CHECKING:
    from pathlib import Path

    from runners.sandbox.base import Sandbox

# Programs that scrape every 10 ms keep two processors busy; those that do once a second only wait.
SIDE_BY_SIDE, SIDE_BY_SIDE_SLOW = 4, 13
_ASK_LIMITS: Final = Limits(wall_s=20.0, cpu_s=10.0, memory_bytes=512 * MIB, output_bytes=256 * 1024, processes=128)
_THREADS: Final = 16
PLAIN: Final = Go(packages=PACKAGES + NETWORK)
WITH_RACE: Final = Go(packages=PACKAGES + NETWORK, race=True)


@dataclass(frozen=True)
class Tried:
    """What came of a program.

    Attributes:
        built: The build without the race detector.
        runs: What the runs showed; None where it does not build.
        flags: How its flags are called.
        race: The build with the race detector; None where there was none.
        toolchain: What built it.
    """

    built: Built
    toolchain: str
    runs: Runs | None = None
    flags: Flags | None = None
    race: Built | None = None


def try_program(program: bytes, dodge: str, sandbox: Sandbox, folder: Path) -> Tried:
    """Builds it and runs it; `dodge` says why it cannot be tried with the race detector, if it cannot.

    Raises:
        SandboxFailed, ToolchainError: The machine cannot do that.
        TextWorkerError: No process can be had that reads what the program printed.
    """
    return asyncio.run(_try(program, dodge, sandbox, folder))


async def _try(program: bytes, dodge: str, sandbox: Sandbox, folder: Path) -> Tried:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(_THREADS))
    built, toolchain = await asyncio.to_thread(_build, PLAIN, program, sandbox, folder / "plain")
    plain = built.program
    if plain is None:
        return Tried(built, toolchain)
    flags = await asyncio.to_thread(_flags_of, plain, sandbox, folder / "ask")
    python = await asyncio.to_thread(python_runtime, sandbox)
    setting = Setting(sandbox, python, folder)
    race: Built | None = None
    seen: dict[str, Seen] = {}
    places = asyncio.Semaphore(SIDE_BY_SIDE if flags.is_quick else SIDE_BY_SIDE_SLOW)

    async def run(plan: Plan, binary: Path) -> None:
        async with places:
            seen[plan.name] = await play(plan, setting, binary, flags)

    async def run_with_race(plan: Plan) -> None:
        nonlocal race
        if dodge:
            return
        made, _ = await asyncio.to_thread(_build, WITH_RACE, program, sandbox, folder / "with-race")
        race = made
        if made.program is not None:
            await run(plan, made.program)

    async with asyncio.TaskGroup() as group:
        for plan in plans(quick=flags.is_quick).values():
            group.create_task(run_with_race(plan) if plan.name == RACE else run(plan, plain))
    problem = dodge or ("it does not build with the race detector" if race is None or race.program is None else "")
    runs = Runs(seen, quick=flags.is_quick, has_buffer_flag=flags.buffer is not None, race_problem=problem)
    return Tried(built, toolchain, runs, flags, race)


def _build(go: Go, program: bytes, sandbox: Sandbox, folder: Path) -> tuple[Built, str]:
    """A build, and what it was made with."""
    toolchain = go.open(sandbox)
    return build(toolchain, sandbox, folder, {FILE: program}, ["build", *go.flags()]), toolchain.version


def _flags_of(binary: Path, sandbox: Sandbox, folder: Path) -> Flags:
    """Asks the program for its flags; those of the exam's text where it says nothing that can be read."""
    folder.mkdir()
    done = sandbox.run(
        [str(PROGRAM), "-h"],
        workdir=folder,
        env=ENVIRONMENT,
        limits=_ASK_LIMITS,
        view=View(placed=((binary, PROGRAM),)),
    )
    printed = (done.stderr + b"\n" + done.stdout).decode("utf-8", "replace")
    try:
        return Flags(**textwork.run(read_flags, printed))
    except textwork.TextLimitError:
        return Flags(**read_flags(""))
