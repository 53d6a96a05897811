"""Programs that parse files of strangers, other users of the machine, and readers of results: who learns a secret?

Each kind of child that is started here really prints, or is asked for, its environment. A whole sweep is run among
secrets, and everything that it wrote is searched for them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from tests.attacks.attack import Attack
from tests.runners import llama_server_program
from tests.runners.tiny_gguf import write_tiny_llama
from tests.screen import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

CATEGORY = "secrets"
MARK = "sekrit-7f3a"
_NAMES = (
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "NVIDIA_API_KEY", "AWS_SECRET_ACCESS_KEY"),
    *("GITHUB_TOKEN", "SOMETHING"),
)
SECRETS = {name: f"{MARK}-{number}" for number, name in enumerate(_NAMES)} | {
    "HTTPS_PROXY": f"http://me:{MARK}@127.0.0.1:9",
    "NO_PROXY": "*",
}
SPEC = """\
name = "attack"
seeds = [1]
exams = ["todo"]
[sampling]
max_tokens = 8
[engine]
kind = "{kind}"
context = 512
threads = 1
{more}
[limits]
retries = 0
[[models]]
name = "m"
source = "{source}"
"""

# What runs here runs as a program of its own among the secrets, and prints JSON: environments and command lines.
_LOOK = """
import contextlib, json, os, sys, threading, time
from pathlib import Path
import psutil

def look(seen):
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            seen["environments"][f"{process.pid} {process.name()}"] = process.environ()

def commands(seen):
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            seen["commands"].append(" ".join(process.cmdline()))

seen = {"environments": {}, "commands": []}
"""
_SERVE = f"""{_LOOK}
from runners.engines import get_engine, settings_type
from urllib.error import HTTPError
from urllib.request import Request, urlopen
kind, binary, model, log = sys.argv[1:]
settings = settings_type(kind)(context=256, threads=1)
served = get_engine(kind, binary=binary or None).load(Path(model), settings, log_path=Path(log), device="CPU")
try:
    look(seen)
    commands(seen)
    body = json.dumps({{"messages": [{{"role": "user", "content": "hi"}}], "max_tokens": 1}}).encode()
    for path, data in (("/v1/chat/completions", body), ("/props", None), ("/tokenize", b'{{"content": "x"}}')):
        for key in ("", "guessed"):
            try:
                status = urlopen(Request(served.base_url + path, data, {{"Authorization": "Bearer " + key}})).status
            except HTTPError as error:
                status = error.code
            seen.setdefault("answers", []).append(status)
finally:
    served.stop()
print(json.dumps(seen))
"""
_SANDBOX = f"""{_LOOK}
from runners.sandbox import open_sandbox
from runners.sandbox.python import python_runtime
import tempfile
sandbox = open_sandbox(sys.argv[1])
runtime = python_runtime(sandbox)
over = threading.Event()
def watch():
    while not over.is_set():
        look(seen)
        time.sleep(0.01)
watcher = threading.Thread(target=watch)
watcher.start()
code = "import os, sys, time; sys.stdout.write(repr(dict(os.environ))); time.sleep(0.7)"
with tempfile.TemporaryDirectory() as box:
    done = sandbox.run([runtime.executable, "-I", "-S", "-c", code], workdir=Path(box), view=runtime.view)
over.set()
watcher.join()
seen["environments"]["the program itself"] = {{"repr": done.stdout.decode()}}
print(json.dumps(seen))
"""
_PROBES = """
import os
from profiles.probe import probe_node
from runners.engines.embedded import EmbeddedEngine
probe_node()
EmbeddedEngine().available()
print(os.getpid())
"""
_PLAN_A_LOAD = """
import sys
from pathlib import Path
from quants.fit.oracle import dry_load, header_files
from quants.footprint import FootprintSettings
model, program, cache = sys.argv[1:]
dry_load(header_files([model]), FootprintSettings(context=256), program=Path(program), cache=Path(cache))
"""
_DUMPS_ITSELF = "import os, sys\nopen({seen!r} + f'/{{os.getpid()}}', 'w').write(repr((sys.argv, dict(os.environ))))\n"


def among_secrets(words: list[str], folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A program of ours in an environment full of secrets."""
    at_home = {"XDG_CACHE_HOME": str(folder / "cache"), "QUANTSWEEP_STATE": str(folder / "state")}
    path = {"PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT))}
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, **path, **SECRETS, **at_home, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=240,
        check=False,
    )


def _answer(code: str, folder: Path, *words: str, **env: str) -> dict[str, Any]:
    done = among_secrets(["-c", code, *words], folder, **env)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _leaks(environments: dict[str, dict[str, str]]) -> str | None:
    """Who of them holds a secret."""
    if not environments:
        return "no child was seen"
    for who, variables in environments.items():
        names = [name for name, value in variables.items() if MARK in value or "RAY_AUTH" in name]
        if names:
            return f"{who} holds {', '.join(sorted(names))}"
    return None


def _dumping(program: Path, seen: Path) -> Path:
    """`program`, a shell script, changed to write its environment into `seen` first."""
    seen.mkdir(exist_ok=True)
    first, rest = program.read_text().split("\n", 1)
    program.write_text(f'{first}\nenv > "{seen}/$$"\n{rest}')
    return program


def _dumped(seen: Path, *, but: str = "") -> str | None:
    """Which of the dumps holds a secret; `but` is the process that may."""
    files = [path for path in seen.iterdir() if path.name != but]
    if not files:
        return "nothing was started"
    for path in files:
        text = path.read_text(errors="replace")
        if MARK in text or "RAY_AUTH" in text:
            return f"a child was given {next(part for part in text.split() if MARK in part or 'RAY_AUTH' in part)}"
    return None


def serving(kind: str) -> Callable[[Path], str | None]:
    """The engine itself, and its supervisor."""

    def attempt(folder: Path) -> str | None:
        binary = str(_dumping(llama_server_program.install(folder), folder / "seen")) if kind == "llama-server" else ""
        model = write_tiny_llama(folder / "tiny.gguf")
        seen = _answer(_SERVE, folder, kind, binary, str(model), str(folder / "log"))
        return _leaks(seen["environments"]) or (_dumped(folder / "seen") if binary else None)

    return attempt


def strangers(kind: str) -> Callable[[Path], str | None]:
    """Another user of the machine, who can connect to the server's port and list processes."""

    def attempt(folder: Path) -> str | None:
        binary = str(llama_server_program.install(folder)) if kind == "llama-server" else ""
        model = write_tiny_llama(folder / "tiny.gguf")
        seen = _answer(_SERVE, folder, kind, binary, str(model), str(folder / "log"))
        if set(seen["answers"]) != {401}:
            return f"without its key the server answered {seen['answers']}"
        keys = {
            variables["LLAMA_API_KEY"] for variables in seen["environments"].values() if "LLAMA_API_KEY" in variables
        }
        if len(keys) != 1:
            return f"{len(keys)} keys were made for one server"
        key = keys.pop()
        if any(key in command for command in seen["commands"]):
            return "the key stands on a command line"
        return "the key stands in the log" if key in (folder / "log").read_text(errors="replace") else None

    return attempt


def probes(folder: Path) -> str | None:
    """Tools that are asked for their version, engines that are asked for their devices."""
    seen, site, tools = folder / "seen", folder / "site", folder / "bin"
    for path in (seen, site, tools):
        path.mkdir()
    (site / "sitecustomize.py").write_text(_DUMPS_ITSELF.format(seen=str(seen)))
    for name in ("go", "node", "cc", "chromium", "ollama", "llama-fit-params", "bwrap"):
        tool = tools / name
        tool.write_text("#!/bin/sh\necho version 1.2\n")
        tool.chmod(0o755)
        _dumping(tool, seen)
    _dumping(llama_server_program.install(tools), seen)
    python_path = os.pathsep.join((str(site), os.environ.get("PYTHONPATH", str(ROOT))))
    done = among_secrets(
        ["-c", _PROBES], folder, PATH=f"{tools}{os.pathsep}{os.environ['PATH']}", PYTHONPATH=python_path
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    asker = done.stdout.split()[-1]
    asked = len(list(seen.iterdir())) - (seen / asker).exists()
    return _dumped(seen, but=asker) if asked > 8 else f"only {asked} children were seen"


def planner(folder: Path) -> str | None:
    """llama-fit-params, which is given the headers of files that nobody has run yet."""
    program = folder / "llama-fit-params"
    program.write_text(
        "#!/bin/sh\ncase $1 in --version) echo 'version: 1 (a)';; --help) echo '--no-repack --device';; "
        "*) echo 'Host 1 2 3 ';; esac\n"
    )
    program.chmod(0o755)
    _dumping(program, folder / "seen")
    model = write_tiny_llama(folder / "tiny.gguf")
    done = among_secrets(["-c", _PLAN_A_LOAD, str(model), str(program), str(folder / "c")], folder)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    return _dumped(folder / "seen")


def graders(kind: str) -> Callable[[Path], str | None]:
    """The program that a model wrote, and every process between it and us."""

    def attempt(folder: Path) -> str | None:
        return _leaks(_answer(_SANDBOX, folder, kind)["environments"])

    return attempt


def arguments_with_secrets(folder: Path) -> str | None:
    """A person who puts a key where plans and rows would show it."""
    for extra in (
        ["--api-key", MARK],
        [f"--api_key={MARK}"],
        ["-hft", MARK],
        [f"--hf-token {MARK}"],
        ["--model-url", f"https://me:{MARK}@example.org/m.gguf"],
        ["--some-secret", MARK],
    ):
        spec = folder / "spec.toml"
        more = f"extra_args = {json.dumps(extra)}"
        spec.write_text(SPEC.format(kind="llama-server", source="builtin:stand-in", more=more))
        for words in (["plan", str(spec)], ["run", str(spec), "--out", str(folder / "out")]):
            done = among_secrets(["-m", "orchestrator", *words], folder)
            if done.returncode != 2 or "spec.toml:10: engine.extra_args" not in done.stderr:
                return f"{extra[0]} was taken: code {done.returncode}"
            if MARK in done.stdout + done.stderr:
                return f"{extra[0]}: the secret was shown"
        if found := _holding(folder, MARK, but=[spec]):
            return f"{found} holds it"
    return None


def address_of_a_hub(folder: Path) -> str | None:
    """A mirror's address with a password in it, which errors and rows name."""
    spec = folder / "spec.toml"
    spec.write_text(SPEC.format(kind="embedded", source="hf:owner/name", more=""))
    done = among_secrets(
        ["-m", "orchestrator", "plan", str(spec)],
        folder,
        HF_ENDPOINT=f"http://me:{MARK}@127.0.0.1:9",
        HF_HUB_OFFLINE="0",
    )
    if done.returncode != 2 or "127.0.0.1:9" not in done.stderr:
        return f"it did not name the mirror: {done.stderr[-300:]}"
    return "the password was shown" if MARK in done.stdout + done.stderr else None


def whole_sweep(folder: Path) -> str | None:
    """Everything that a sweep writes, and all that its engine was told."""
    program = _dumping(llama_server_program.install(folder), folder / "seen")
    model = write_tiny_llama(folder / "tiny-F32.gguf")
    spec = folder / "spec.toml"
    spec.write_text(SPEC.format(kind="llama-server", source=model, more=f'binary = "{program}"'))
    done = among_secrets(["-m", "orchestrator", "run", str(spec), "--out", str(folder / "out")], folder)
    if done.returncode != 0:
        return f"the sweep ended with code {done.returncode}: {done.stderr[-500:]}"
    keys = {
        line.partition("=")[2]
        for path in (folder / "seen").iterdir()
        for line in path.read_text().splitlines()
        if line.startswith("LLAMA_API_KEY=")
    }
    if not keys:
        return "the server had no key"
    for secret in (MARK, *keys):
        if secret in done.stdout + done.stderr:
            return "the output holds a secret"
        if found := _holding(folder, secret, but=[folder / "seen"]):
            return f"{found} holds a secret"
    return _dumped(folder / "seen")


def _holding(folder: Path, secret: str, *, but: Iterable[Path] = ()) -> Path | None:
    """A file below `folder` that holds `secret`, in its bytes or in its rows."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(path == each or each in path.parents for each in but):
            rows = str(pq.read_table(path).to_pylist()) if path.suffix == ".parquet" else ""
            if secret.encode() in path.read_bytes() or secret in rows:
                return path.relative_to(folder)
    return None


def _sandboxes() -> list[str]:
    return ["namespaces", *(["bubblewrap"] if shutil.which("bwrap") else [])]


_TRIED: list[tuple[str, Callable[[Path], str | None]]] = [
    ("environment of llama-server and its supervisor", serving("llama-server")),
    ("environment of the embedded engine and its supervisor", serving("embedded")),
    ("environment of probes: tools, engines, devices", probes),
    ("environment of the planner", planner),
    *((f"environment in the sandbox: {kind}", graders(kind)) for kind in _sandboxes()),
    ("another user asks llama-server", strangers("llama-server")),
    ("another user asks the embedded engine", strangers("embedded")),
    ("keys and tokens in extra_args", arguments_with_secrets),
    ("password in the Hub's address", address_of_a_hub),
    ("everything that a sweep writes", whole_sweep),
]
ATTACKS: list[Attack] = [Attack(CATEGORY, name, attempt) for name, attempt in _TRIED]
