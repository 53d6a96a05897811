"""The host's side of the sandbox attacks: starts hostile programs and judges what came of them.

Run as a program by the user that the sandbox is for: `sandbox_worker.py KIND [without-cgroups]` reads a JSON line
`[category, name, folder]` for each attack and answers each with a JSON line: null, or what got through.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from runners.errors import RunnersError  # noqa: E402 - started as a program, it has to find them first
from runners.sandbox import BOX, Completed, Limits, Sandbox, SandboxUnavailable, cgroup, open_sandbox  # noqa: E402 - as above
from runners.sandbox.base import MIB  # noqa: E402 - as above
from runners.sandbox.cleanup import remove_tree  # noqa: E402 - as above
from runners.sandbox.python import PythonRuntime, python_runtime  # noqa: E402 - as above
from tests.attacks import sandbox_hostile, sandbox_kernel, sandbox_wrecks  # noqa: E402 - as above

if TYPE_CHECKING:
    from collections.abc import Callable

KERNEL, SCORE, REACH = "kernel surface", "score", "reach"
LIMITS = Limits(
    wall_s=60.0, cpu_s=40.0, memory_bytes=128 * MIB, file_bytes=16 * MIB, output_bytes=MIB, processes=16, files=500
)
SPACIOUS = Limits(wall_s=60.0, cpu_s=40.0, memory_bytes=1024 * MIB)
# Where the hostile program lies inside; not in its folder, which is what it works on.
PROGRAM = Path("/tmp/program.py")

Placed = tuple[tuple[Path, Path], ...]


@dataclass
class Host:
    """A sandbox of a kind and a Python in it."""

    kind: str
    sandbox: Sandbox
    runtime: PythonRuntime

    def run(
        self,
        program: Path,
        box: Path,
        *arguments: str,
        limits: Limits = LIMITS,
        placed: Placed = (),
        at: Path = PROGRAM,
    ) -> Completed:
        """A Python program of the host, at `at`."""
        view = replace(self.runtime.view, placed=((program, at), *placed))
        argv = [self.runtime.executable, "-I", "-S", str(at), *arguments]
        return self.sandbox.run(argv, workdir=box, limits=limits, view=view, env={"PATH": "/usr/bin:/bin"})

    @cached_property
    def got_of_the_kernel(self) -> set[str]:
        """What sandbox_kernel.py came away with, in one run of all its attempts."""
        folder = Path(os.environ["TMPDIR"], "kernel")
        folder.mkdir()
        done = self.run(Path(sandbox_kernel.__file__), folder, limits=SPACIOUS)
        remove_tree(folder)
        if done.status != "ok":
            raise RuntimeError(f"the attempts ended with {done}")
        return set(json.loads(done.stdout))

    @cached_property
    def reached(self) -> dict[str, Any]:
        """What the battery of tests/runners/sandbox found of the host: files, processes, network."""
        from tests.runners.sandbox import attempt

        return attempt.attempt(self.kind)


def hostile(host: Host, number: int, box: Path) -> str | None:
    program = sandbox_hostile.PROGRAMS[number]
    limits = replace(LIMITS, **program.limits)  # type: ignore[arg-type]  # fields of Limits, all of them numbers
    done = host.run(Path(sandbox_hostile.__file__), box, str(number), limits=limits)
    if b"GOT" not in done.stdout and done.status in program.statuses:
        return None
    return f"it ended with {done.status} after {done.wall_s:.1f} s: {done.stdout[-60:]!r} {done.stderr[-200:]!r}"


def wreck(host: Host, folder: Path, name: str) -> str | None:
    """After it, a run in the same folder is possible or the program's failure; and the folder can be removed."""
    box = folder / "box"
    box.mkdir()
    answer = folder / "answer.py"
    answer.write_text("print('honest')")
    host.run(Path(sandbox_wrecks.__file__), box, name)
    for at in (BOX / "todo.py", BOX / "part" / "todo.py"):
        done = host.run(answer, box, at=at)
        if done.stdout != b"honest\n" and done.status not in ("output_limit", "nonzero"):
            return f"the next run ended with {done}"
    return None if remove_tree(box) else f"{box} cannot be removed"


def forgery(host: Host, folder: Path, name: str) -> str | None:
    done = host.run(Path(sandbox_wrecks.__file__), folder, name)
    return None if done.exit_code == 7 else f"it ended with {done}"


def code(host: Host, box: Path, text: str, *arguments: str, limits: Limits = LIMITS) -> Completed:
    argv = [host.runtime.executable, "-I", "-S", "-c", text, *arguments]
    return host.sandbox.run(argv, workdir=box, limits=limits, view=host.runtime.view)


def link_out_of_the_folder(host: Host, folder: Path) -> str | None:
    """The folder of its program becomes a link to a folder of the host: nothing may be made there."""
    box, outside = folder / "box", folder / "outside"
    box.mkdir()
    outside.mkdir()
    answer = folder / "answer.py"
    answer.write_text("pass")
    for target in (str(outside), f"/old{outside}", "../outside"):
        code(host, box, "import os, sys; os.symlink(sys.argv[1], 'part')", target)
        host.run(answer, box, at=BOX / "part" / "todo.py")
        if any(outside.iterdir()):
            return f"{list(outside.iterdir())} was made through the link {target}"
        remove_tree(box / "part")
    return None


def links_while_it_is_looked_at(host: Host, box: Path) -> str | None:
    """A folder that turns into a link to /usr and back: nobody may count, or unlock, what lies behind the link."""
    text = (
        "import os, time\n"
        "end = time.monotonic() + 1.5\n"
        "os.makedirs('a/b/c')\n"
        "while time.monotonic() < end:\n"
        "    os.rename('a', 'kept')\n"
        "    os.symlink('/usr', 'a')\n"
        "    os.unlink('a')\n"
        "    os.rename('kept', 'a')"
    )
    done = code(host, box, text)
    return None if done.status == "ok" else f"it ended with {done}"


def honest(host: Host, box: Path) -> str | None:
    """What is within its limits, but looks like something that is not, must be let through."""
    text = (
        "import os, subprocess, time, tempfile, threading\n"
        "held = bytearray(b'1') * (70 << 20)\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0:\n"
        "        os._exit(0)  # a zombie until the end\n"
        "for _ in range(5):\n"
        "    subprocess.run(['/bin/true'], check=True)\n"
        "os.mkdir('locked')\n"
        "for _ in range(500):\n"
        "    os.chmod('locked', 0)\n"
        "    os.chmod('locked', 0o700)\n"
        "    open('locked/file', 'w').close()\n"
        "os.chmod('locked', 0)\n"
        "unnamed = tempfile.TemporaryFile(dir='.')\n"
        "unnamed.write(b'1' * (8 << 20))\n"
        "if os.fork() == 0:\n"
        "    time.sleep(0.5)  # shares what it does not change\n"
        "    os._exit(0)\n"
        "time.sleep(1)\n"
        "assert os.stat('locked').st_mode & 0o777 == 0\n"
        "os.chmod('locked', 0o700)"
    )
    done = code(host, box, text)
    return None if done.status == "ok" else f"it ended with {done}"


def argument(host: Host, box: Path, word: str) -> str | None:
    """An exam asks a program for what it has printed: that it cannot be passed on is the program's failure."""
    done = code(host, box, "import sys; print(len(sys.argv[1]))", word)
    return None if done.status in ("ok", "nonzero") else f"it ended with {done}"


def exit_codes(host: Host, box: Path) -> str | None:
    for number in (1, 2, 125, 126, 127, 128, 129, 137, 255):
        done = code(host, box, f"import os; os._exit({number})")
        if done.status not in ("nonzero", "signal"):
            return f"exit code {number} became {done}"
    return None


ARGUMENTS = {
    "a megabyte": "1" * (1 << 20),
    "200,000 digits": "1" * 200_000,
    "a zero byte": "1\0 2",
    "half a character": "\ud83d",
}
SCENARIOS: dict[str, Callable[[Host, Path], str | None]] = {
    **{f"a program {name}": partial(wreck, name=name) for name in sandbox_wrecks.WRECKS},
    **{f"a program {name}": partial(forgery, name=name) for name in sandbox_wrecks.FORGERIES},
    **{
        f"a program is asked for {name} that it printed": partial(argument, word=word)
        for name, word in ARGUMENTS.items()
    },
    "a program puts a link out of its folder": link_out_of_the_folder,
    "a program's folder is a link while it is looked at": links_while_it_is_looked_at,
    "a program ends with codes of the sandbox's own": exit_codes,
    "an honest program is taken for a hostile one": honest,
}
# What of the host nothing may be within reach of; judged by what the battery found.
REACHES: dict[str, Callable[[dict[str, Any]], bool]] = {
    "the host's files, home and secrets": lambda found: found["reads"] == [],
    "writing outside its folder": lambda found: found["writes"] == [],
    "the host's network and services": lambda found: found["connects"] == [] and found["interfaces"] == ["lo"],
    "privileges, devices, settings, signals": lambda found: found["calls"] == [] and bool(found["no new privileges"]),
    "the host's processes": lambda found: found["processes"] == 2 and found["process 1"] == "",
}


def judged(host: Host, category: str, name: str, folder: Path) -> str | None:
    """What got through, or None."""
    try:
        if category == KERNEL:
            return f"it got {name}" if name in host.got_of_the_kernel else None
        if category == REACH:
            return None if REACHES[name](host.reached) else f"it found {host.reached}"
        if category == SCORE:
            return SCENARIOS[name](host, folder)
        keys = [(program.category, program.name) for program in sandbox_hostile.PROGRAMS]
        return hostile(host, keys.index((category, name)), folder)
    except RunnersError as error:
        return f"it became a failure of the machine: {type(error).__name__}: {error}"
    finally:
        remove_tree(folder)


def names() -> list[tuple[str, str]]:
    """Category and name of every attack."""
    return [
        *((SCORE, name) for name in SCENARIOS),
        *((program.category, program.name) for program in sandbox_hostile.PROGRAMS),
        *((KERNEL, name) for name in sandbox_kernel.ATTEMPTS),
        *((REACH, name) for name in REACHES),
    ]


def main() -> None:
    kind, *rest = sys.argv[1:]
    if rest:
        cgroup.place = lambda: None
    try:
        sandbox = open_sandbox(kind)
        host = Host(kind, sandbox, python_runtime(sandbox))
    except SandboxUnavailable as error:
        print(json.dumps({"not here": str(error)}), flush=True)
        return
    print(json.dumps({"isolation": sandbox.isolation}), flush=True)
    for line in sys.stdin:
        category, name, folder = json.loads(line)
        Path(folder).mkdir(parents=True)
        try:
            answer = judged(host, category, name, Path(folder))
        except Exception as error:  # whatever it is, the attack did not end as it should
            answer = f"{type(error).__name__}: {error}"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
