"""Go inside a sandbox: the toolchain of this machine, with a standard library that is compiled already.

The compiled library is a GOCACHE that is made once a machine for each version of Go (`warm_cache`) and shown read-only:
the `go` program takes from it what it finds and keeps what it compiles itself to the one build. So a program that a
model wrote can neither spoil nor read what another one's build left. What a program imports beyond `PACKAGES` is
compiled in its own build.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from profiles.environment import child_environment
from profiles.probe.golang import GoFound, find_go
from profiles.probe.system import System
from profiles.probe.trials import MissingError
from runners.sandbox.base import MIB, Limits, Sandbox, View
from runners.sandbox.scratch import Scratch
from runners.toolchains.base import Toolchain, ToolchainError
from runners.toolchains.warm import ask, warm_cache

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PACKAGES: Final = (
    *("bufio", "bytes", "cmp", "container/heap", "container/list", "container/ring", "context", "embed"),
    *("encoding/binary", "encoding/hex", "encoding/json", "errors", "flag", "fmt", "hash/fnv", "io", "io/fs"),
    *("io/ioutil", "iter", "log", "log/slog", "maps", "math", "math/big", "math/bits", "math/rand", "math/rand/v2"),
    *("os", "os/signal", "path", "path/filepath", "reflect", "regexp", "runtime", "runtime/debug", "slices", "sort"),
    *("strconv", "strings", "sync", "sync/atomic", "syscall", "testing", "text/tabwriter", "text/template"),
    *("time", "unicode", "unicode/utf8"),
)
"""What programs of exams import; compiled once, in some half a minute of CPU time, twice that with `-race`."""

NETWORK: Final = ("crypto/rand", "encoding/xml", "net", "net/http", "net/http/httptest", "net/url", "os/exec")
"""What clients and servers import besides: as much again."""

BUILD_LIMITS: Final = Limits(
    wall_s=180.0,
    cpu_s=240.0,
    memory_bytes=2048 * MIB,  # of all processes; the race detector's link and a large package at once take some 700
    output_bytes=1 * MIB,
    file_bytes=512 * MIB,
    processes=256,
    files=10_000,
)
# -buildvcs: no git in the box. -trimpath: nothing of this machine's paths in what is built.
_FLAGS: Final = "-mod=mod -trimpath -buildvcs=false -p=2"
_MODULE: Final = "module exam\n\ngo 1.23\n"
_TRIAL: Final = 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("built inside") }\n'
_TRIED: Final = b"built inside\n"


@dataclass(frozen=True)
class Go:
    """Go, with or without the race detector, and the packages that are compiled beforehand.

    Attributes:
        race: Build with `-race`; needs a C compiler, and cgo.
        packages: Import paths of the standard library.
    """

    race: bool = False
    packages: tuple[str, ...] = PACKAGES
    language: str = "go"

    @property
    def needs(self) -> frozenset[str]:
        """See `Provider.needs`."""
        return frozenset({"go-race" if self.race else "go"})

    def open(self, sandbox: Sandbox) -> Toolchain:
        """See `Provider.open`."""
        key = (os.getpid(), self, sandbox.isolation)
        with _opening:
            if key not in _opened:
                _opened[key] = self._tried(sandbox)
            return _opened[key]

    def flags(self) -> list[str]:
        """What `go build` and `go test` are given for this kind."""
        return ["-race"] if self.race else []

    def _tried(self, sandbox: Sandbox) -> Toolchain:
        with Scratch() as folder:
            try:
                found = find_go(System(), folder.path)
            except MissingError as why:
                raise ToolchainError(f"there is no Go toolchain: {why}", "; ".join(why.cures)) from why
        cache = warm_cache(self._key(found), lambda place: self._warm(found, place))
        toolchain = Toolchain(
            name="go",
            version=f"{found.version}{' with -race' if self.race else ''}",
            program=found.program,
            view=View(read_only=(found.root, cache)),
            environment={**self._environment(found, cache), "PATH": "/usr/local/bin:/usr/bin:/bin", "TMPDIR": "/tmp"},  # noqa: S108 - a path inside
            limits=BUILD_LIMITS,
            prepare=keep_out_of_index,
        )
        self._prove(toolchain, sandbox)
        return toolchain

    def _key(self, found: GoFound) -> str:
        """What a cache is of: version and platform (as the toolchain says them), kind, flags and packages."""
        what = repr((found.version, str(found.root), self.race, _FLAGS, _MODULE, sorted(self.packages)))
        version = found.version.replace(" ", "-").replace("/", "-")
        return f"{version}{'-race' if self.race else ''}-{hashlib.sha256(what.encode()).hexdigest()[:12]}"

    def _environment(self, found: GoFound, cache: Path) -> dict[str, str]:
        """The same where the cache is made and where it is used: some of it is part of the cache's keys.

        There is no HOME: nothing is kept there, and telemetry has no folder to write to.
        """
        return {
            "GOROOT": str(found.root),
            "GOCACHE": str(cache),
            "GOPATH": "/tmp/go",  # noqa: S108 - a path inside; outside nothing is written to it
            "GOENV": "off",
            "GOFLAGS": _FLAGS,
            "GOPROXY": "off",
            "GOSUMDB": "off",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            "GOMAXPROCS": "2",
            "CGO_ENABLED": "1" if self.race else "0",
            "LC_ALL": "C.UTF-8",
        }

    def _warm(self, found: GoFound, place: Path) -> None:
        """Compiles the packages, and a program and a test that import them, by the commands that exams use."""
        with Scratch() as folder:
            imports = "".join(f'\t_ "{package}"\n' for package in self.packages)
            texts = {
                "go.mod": _MODULE,
                "main.go": f"package main\n\nimport (\n{imports})\n\nfunc main() {{}}\n",
                "main_test.go": 'package main\n\nimport "testing"\n\nfunc TestNothing(*testing.T) {}\n',
            }
            for name, text in texts.items():
                (folder.path / name).write_text(text, encoding="utf-8")
            own: Mapping[str, str] = {**child_environment(), **self._environment(found, place)}
            environment = {**own, "HOME": str(folder.path), "GOPATH": str(folder.path / "go")}
            out = str(folder.path / "made")
            # The index of the library is kept as well: what has none there is not in it, as far as `go` can tell.
            for words in (
                ["list", *self.flags(), "-deps", "std"],
                ["build", *self.flags(), "-o", out, "."],
                ["test", "-c", *self.flags(), "-o", out, "."],
            ):
                ask([str(found.program), *words], folder=folder.path, environment=environment)

    def _prove(self, toolchain: Toolchain, sandbox: Sandbox) -> None:
        """Builds and runs a program inside: what the view lacks shows here, and not in a model's score.

        Raises:
            ToolchainError: It does not work inside.
        """
        with Scratch() as folder:
            work = folder.path / "work"
            work.mkdir()
            for name, text in (("go.mod", _MODULE), ("main.go", _TRIAL)):
                (work / name).write_text(text, encoding="utf-8")
            built = toolchain.run(sandbox, ["build", *self.flags(), "-o", "trial", "."], workdir=work)
            said = built.stderr.decode("utf-8", "replace").strip()[-300:]
            if built.status != "ok":
                raise ToolchainError(f"{toolchain.version} does not build inside the sandbox: {built.status} {said}")
            ran = sandbox.run(["/box/trial"], workdir=work, limits=BUILD_LIMITS)
            if ran.stdout != _TRIED:
                raise ToolchainError(f"what {toolchain.version} builds does not run inside the sandbox: {ran.status}")


def keep_out_of_index(folder: Path) -> None:
    """Dates the files of a program an hour ahead, so that `go` does not index their packages.

    `go` keeps an index of each package in its cache, and fails where that cannot be written, as here. It makes none of
    a package with a file that was changed less than two seconds ago (cmd/go/internal/modindex, modTimeCutoff): so
    builds would work on a fast machine and fail, with the model to blame, where two seconds go by before `go` looks.
    """
    ahead = time.time() + 3600
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                os.utime(os.path.join(parent, name), (ahead, ahead), follow_symlinks=False)  # noqa: PTH118 - of any bytes


_opened: dict[tuple[int, Go, str], Toolchain] = {}
_opening = threading.Lock()
