"""Builds llama-server and its companions from the source package of llama-cpp-python, once, outside the tree.

    python -m tools.build_llama_cpp [BACKEND]      prints the folder with the programs; what it does goes to stderr
    CMAKE_ARGS="-DGGML_AVX512=ON" python -m ...    more arguments for CMake, as llama-cpp-python itself takes them

BACKEND is cpu, cuda, vulkan, rocm or metal; without one it is metal on a Mac and cpu anywhere else. What it needs is
looked for first. docs/gpu-builds.md says which card takes which.

The source package is fetched with pip, from wherever pip is set up to look, and checked against the hash below. The
programs land in $XDG_CACHE_HOME/quantsweep/llama-cpp-<version>/bin, those of other backends than cpu in
llama-cpp-<version>-<backend>/bin, where the llama-server engine looks for them (`profiles.programs` says which it
takes). A build that was interrupted goes on where it stopped; `bin` appears only when all of it is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tools.llama_backends import BACKENDS, compilers, lacking

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "llama-cpp-python"
VERSION = "0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
PROGRAMS = ("llama-server", "llama-quantize", "llama-bench", "llama-fit-params", "llama-perplexity")
CMAKE_FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
)
NEEDED_BYTES = 2 * 1024**3
SHOWN_LINES = 30


def fail(message: str, hint: str = "") -> NoReturn:
    """End with a sentence and, where there is one, the way out."""
    sys.stderr.write(f"error: {message}\n" + (f"  {hint}\n" if hint else ""))
    raise SystemExit(2)


def say(text: str) -> None:
    """What is being done, for whoever waits."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def destination(backend: str, extra: list[str]) -> Path:
    """The folder of this version and backend; other CMake arguments make another build."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    marker = f"-{hashlib.sha256(shlex.join(extra).encode()).hexdigest()[:8]}" if extra else ""
    which = "" if backend == "cpu" else f"-{backend}"
    return root / "quantsweep" / f"llama-cpp-{VERSION}{which}{marker}"


def asked_backend(words: list[str]) -> str:
    """The backend that the command line names, or this system's own."""
    if not words or words == [""]:
        return "metal" if sys.platform == "darwin" else "cpu"
    if len(words) != 1 or words[0] not in BACKENDS:
        fail(f"{' '.join(words)!r} is no backend", f"one of: {', '.join(BACKENDS)}")
    return words[0]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One build of a folder at a time; the lock goes with the process."""
    with (folder / ".lock").open("w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build of it is running; waiting for that one")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(argv: list[str], what: str, log: Path, hint: str, **more: str) -> None:
    """Run a step with its output in `log` and `more` variables; if it fails, show the end of the log."""
    say(what)
    try:
        with log.open("ab") as file:
            code = subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False, env={**os.environ, **more}
            ).returncode
    except OSError as error:
        fail(f"{argv[0]} cannot be run: {error.strerror}", hint)
    if code != 0:
        sys.stderr.write("\n".join(log.read_text(errors="replace").splitlines()[-SHOWN_LINES:]) + "\n")
        fail(f"{what} failed (exit code {code}); all of its output: {log}", hint)


def fetch(folder: Path, log: Path) -> Path:
    """The verified source package."""
    archive = folder / f"{PACKAGE.replace('-', '_')}-{VERSION}.tar.gz"
    if not archive.exists():
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps"]
            argv = [*pip, "--no-binary", PACKAGE, "--dest", fresh, f"{PACKAGE}=={VERSION}"]
            run(argv, f"fetching {PACKAGE} {VERSION} (77 MB)", log, "see whether pip works and reaches its index")
            (Path(fresh) / archive.name).rename(archive)
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        archive.unlink()
        fail(
            f"{archive.name} has the sha256 {found}, expected {SHA256}",
            "it was removed: try again, or find out who changed it",
        )
    return archive


def build(folder: Path, backend: str, extra: list[str]) -> None:
    """Fetch, unpack, configure, compile; then make `bin` appear and clear up."""
    if shutil.disk_usage(folder).free < NEEDED_BYTES:
        fail(f"less than {NEEDED_BYTES >> 30} GiB are free under {folder}", "make room, or set XDG_CACHE_HOME")
    log = folder / "build.log"
    log.write_bytes(b"")
    source = folder / "source"
    archive = fetch(folder, log)
    if not source.exists():
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            with tarfile.open(archive) as package:
                package.extractall(fresh, filter="data")
            (Path(fresh) / archive.name.removesuffix(".tar.gz") / "vendor" / "llama.cpp").rename(source)
    tools = "apt-get install cmake build-essential, or python -m pip install cmake ninja"
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    target = folder / "build"
    flags = [*CMAKE_FLAGS, *BACKENDS[backend].flags, *extra]
    argv = ["cmake", "-S", str(source), "-B", str(target), *generator, *flags]
    run(argv, f"configuring for {backend}", log, tools, **compilers(backend))
    jobs = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    argv = ["cmake", "--build", str(target), "--config", "Release", "--parallel", jobs, "--target", *PROGRAMS]
    long = "9 minutes on two cores" if backend == "cpu" else "GPU code takes several times the CPU's 9 minutes"
    hint = "the log says which file did not compile"
    run(argv, f"compiling with {jobs} jobs ({long})", log, hint, **compilers(backend))
    run([str(target / "bin" / "llama-server"), "--version"], "trying it", log, "the build does not run on this machine")
    # The programs find their libraries by the place they were built in, so they stay there.
    (folder / "bin").symlink_to(Path("build") / "bin", target_is_directory=True)
    for path in [source, archive, *(each for each in target.iterdir() if each.name != "bin")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def main() -> None:
    """Build unless it is done, and print where the programs are."""
    backend = asked_backend(sys.argv[1:])
    extra = shlex.split(os.environ.get("CMAKE_ARGS", ""))
    if missing := lacking(backend):
        fail(
            f"{backend} cannot be built here: {'; '.join(missing)}", "docs/gpu-builds.md has other ways to a GPU build"
        )
    folder = destination(backend, extra)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if all((folder / "bin" / program).exists() for program in PROGRAMS):
            say("already built")
        else:
            (folder / "bin").unlink(missing_ok=True)
            build(folder, backend, extra)
    print(folder / "bin")


if __name__ == "__main__":
    main()
