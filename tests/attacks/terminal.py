"""Text of strangers that tries to steer the terminal, to forge a line of ours, or to end a command with a traceback.

Everything goes through the real command line in a real pseudo-terminal: names of files, metadata, answers of a Hub,
an engine's last words, rows of somebody else's run, keys of a spec, arguments.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from results.store import RunStore
from tests.attacks.attack import Attack
from tests.hubserver.server import Fault, LocalHub
from tests.quants import ggufbytes as gb
from tests.quants.fitmodels import publish
from tests.results.conftest import make_row
from tests.runners import llama_server_program
from tests.runners.tiny_gguf import write_tiny_llama
from tests.screen import FORGED_LINE, HOSTILE, ROOT, STEERS, in_terminal, what_steers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

CATEGORY = "terminal"
# A file's name takes 255 bytes, and no slash; this one is no UTF-8 in one place.
FILE_NAME = os.fsdecode(f"x{STEERS}{FORGED_LINE}-".replace("/", "").encode() + b"\x9b\xff")
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
source = {source}
"""


def shown(arguments: Sequence[str | Path], folder: Path, *, code: int | None = None, **env: str) -> str | None:
    """What the output of a command holds that steers; or that it did not end with `code`, or said nothing."""
    at_home = {"XDG_CACHE_HOME": str(folder / "cache"), "XDG_CONFIG_HOME": str(folder), "HF_HOME": str(folder / "hf")}
    done = in_terminal(arguments, cwd=folder, env=at_home | {"QUANTSWEEP_STATE": str(folder / "state")} | env)
    if code is not None and done.returncode != code:
        return f"it ended with code {done.returncode} instead of {code}: {done.text[-500:]!r}"
    return what_steers(done.text) or (None if done.text.strip() else "it said nothing")


def spec_in(folder: Path, source: str, *, kind: str = "embedded", more: str = "") -> Path:
    path = folder / "spec.toml"
    path.write_text(SPEC.format(source=json.dumps(source), kind=kind, more=more), encoding="utf-8")
    return path


def names_of_files(folder: Path) -> str | None:
    models = folder / "models"
    models.mkdir()
    (models / f"{FILE_NAME}.gguf").write_bytes(gb.small_model().data())
    (models / f"{FILE_NAME}-broken.gguf").write_bytes(b"no model")
    spec = spec_in(folder, str(models))
    return (
        shown(["fits", models, "--vram", "8"], folder, code=0)
        or shown(["fits", models, "--vram", "8", "--json"], folder, code=0)
        or shown(["plan", spec], folder, code=0)
        or shown(["fits", models / FILE_NAME, "--vram", "8"], folder, code=2)
        or shown(["plan", f"{FILE_NAME}.toml"], folder, code=2)
    )


def metadata(folder: Path) -> str | None:
    models = folder / "models"
    models.mkdir()
    hostile: list[tuple[str, gb.GGUF]] = [
        ("alignment", gb.small_model(extra=[("general.alignment", gb.STRING, HOSTILE)])),
        ("architecture", gb.small_model(architecture=f"[/]{HOSTILE}")),
        ("key", gb.small_model(extra=[(HOSTILE, gb.UINT32, 1), (HOSTILE, gb.UINT32, 2)])),
        ("tensor", gb.small_model(tensors=[gb.Tensor(HOSTILE, (32,), 99, 34)])),
        ("raw", gb.small_model(extra=[("general.name", gb.STRING, b"\x9b\xff\x1b[2J")])),
    ]
    for name, file in hostile:
        (models / f"{name}.gguf").write_bytes(file.data())
    found = shown(["fits", models, "--vram", "8"], folder, code=0)
    for name, _ in hostile:
        found = found or shown(["fits", models / f"{name}.gguf", "--vram", "8"], folder)
    return found or shown(["plan", spec_in(folder, str(models))], folder)


def answers_of_a_hub(folder: Path) -> str | None:
    model = folder / "good.gguf"
    model.write_bytes(gb.small_model().data())
    (folder / "store").mkdir()
    name = HOSTILE.replace("/", "").replace("\\", "")  # the Hub has neither in a name
    with LocalHub(folder / "store") as hub:
        env: dict[str, Any] = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1"}
        publish(hub, "owner/names-GGUF", {f"{name}.gguf": model, f"{name}-Q8_0-00002-of-00003.gguf": model})
        commit = publish(hub, "owner/impossible-GGUF", {"a.gguf": model})
        tree = hub.repos["owner/impossible-GGUF"].commits[commit]
        tree[f"{name}\ud800\0.gguf"] = tree["a.gguf"]
        found = shown(["fits", "hf:owner/impossible-GGUF", "--vram", "8"], folder, code=2, **env)
        found = found or shown(["fits", "hf:owner/names-GGUF", "--vram", "8"], folder, **env)
        found = found or shown(["plan", spec_in(folder, "hf:owner/names-GGUF")], folder, **env)
        words = json.dumps({"error": HOSTILE}).encode()
        for number, status in enumerate((400, 403, 404, 418)):
            fault = Fault(".*", times=9, status=status, body=words, headers={"X-Error-Message": "\x9b2J\x85[/]FORGED"})
            hub.faults[:] = [fault]
            found = found or shown(["fits", f"hf:owner/r{number}-GGUF", "--vram", "8"], folder, code=2, **env)
        hub.faults[:] = [Fault(".*", times=9, status=200, body=json.dumps({"sha": HOSTILE, "siblings": 7}).encode())]
        return found or shown(["plan", spec_in(folder, "hf:owner/sha-GGUF")], folder, code=2, **env)


def arguments(folder: Path) -> str | None:
    for words in (
        [HOSTILE],
        [f"--{HOSTILE}"],
        ["run", HOSTILE],
        ["cards", HOSTILE],
        ["fits", "x", f"--vram={HOSTILE}"],
    ):
        if (found := shown(words, folder, code=2)) is not None:
            return found
    return shown(["exams", "check", HOSTILE], folder, code=2) or shown(["show", HOSTILE], folder, code=2)


def keys_of_a_spec(folder: Path) -> str | None:
    key = json.dumps(HOSTILE)  # TOML's escapes are JSON's, but for a solidus
    path = folder / "spec.toml"
    for text in (
        f"{key} = 1",
        f"name = {key}",
        f'name = "a"\nexams = [{key}]\nseeds = {key}\nmodels = [{{name = {key}, source = {key}, quants = {key}}}]',
        "name = \x1b[2J",
        SPEC.format(source=key, kind="embedded", more=f"{key} = 1"),
        SPEC.format(source='"builtin:stand-in"', kind="embedded", more="").replace('"todo"', key),
        SPEC.format(source='"builtin:stand-in"', kind="llama-server", more=f"binary = {key}"),
    ):
        path.write_text(text, encoding="utf-8", newline="")
        if (found := shown(["plan", path], folder, code=2)) is not None:
            return f"{found} (of {text[:60]!r})"
    return None


def machine_file(folder: Path) -> str | None:
    path = folder / "machine.toml"
    path.write_text(f'[device.{json.dumps(HOSTILE)}]\nleave_free = "1 GiB"\n', encoding="utf-8")
    found = shown(["nodes"], folder, code=0, QUANTSWEEP_MACHINE=str(path))
    path.write_text(f"{json.dumps(HOSTILE)} = 1\n", encoding="utf-8")
    return found or shown(["nodes"], folder, code=2, QUANTSWEEP_MACHINE=str(path))


def a_strangers_run(folder: Path) -> str | None:
    store = RunStore(folder / "run")
    for seed in range(3):
        words = dict.fromkeys(("sweep", "model", "variant", "exam", "hardware_class", "node", "error"), HOSTILE)
        store.commit(make_row(job_id=f"a{seed}", seed=seed, quant=f"[/]Q4{HOSTILE}", **words))
        store.commit(make_row(job_id=f"b{seed}", seed=seed, quant=f"Q8{HOSTILE}" + "z" * 5000, **words))
    store.commit(make_row(job_id="c", quant="Q2", outcome="max_tokens", outcome_class="budget", model=HOSTILE))
    lost = [{"name": HOSTILE, "points": 0, "points_max": 1, "passed": False, "note": HOSTILE, "scoring": HOSTILE}]
    said = [{"role": HOSTILE, "content": HOSTILE, "tool_calls": [{"name": HOSTILE}]}]
    told = dict.fromkeys(("reply", "reasoning", "grader_log", "error"), f"{HOSTILE}\n" * 5)
    jsons = {
        "grade_items": json.dumps(lost),
        "transcript": json.dumps(said),
        "sampling": json.dumps({HOSTILE: HOSTILE}),
    }
    store.commit(make_row(job_id="d", quant="Q3", outcome="wrong", score=0.0, scoring=HOSTILE, **told, **jsons))
    (store.attempts_folder / f"{FILE_NAME}-1.parquet").write_bytes(b"PAR1")
    for options in ([], ["--failures"], ["--job", "d"], ["--job", "a1"]):
        for form in ([], ["--json"]):
            if (found := shown(["show", folder / "run", *options, *form], folder, code=0)) is not None:
                return found
    return (
        shown(["show", folder / "run", "--job", HOSTILE], folder, code=2)
        or shown(["compare", folder / "run", folder / "run"], folder, code=0)
        or shown(["compare", folder / "run", "published:go-exams", "--json"], folder, code=0)
        or shown(["compare", folder / "run", f"published:{HOSTILE}"], folder, code=2)
        or shown(["compare", folder / "run", folder / "run", "--map", f"{HOSTILE}={HOSTILE}x"], folder, code=2)
    )


def last_words_of_an_engine(folder: Path) -> str | None:
    """A whole sweep in a terminal, with its live view: the engine says why it cannot load, in colour and markup."""
    program = llama_server_program.install(folder)
    words = folder / "words"
    words.write_text(f"0.00.1 E llama_model_load: error loading model: unknown model architecture: '[/]{HOSTILE}'\n")
    program.write_text(
        program.read_text().replace("exec ", f'case "$1" in --model) cat "{words}" >&2; exit 1;; esac\nexec ')
    )
    write_tiny_llama(folder / f"tiny{STEERS.replace('/', '')}-F32.gguf")
    spec = spec_in(folder, str(folder), kind="llama-server", more=f'binary = "{program}"')
    return shown(["run", spec, "--out", folder / "out"], folder, code=1) or _logs(folder / "out")


def architecture_of_a_model(folder: Path) -> str | None:
    """The same with the engine that comes with us: llama.cpp repeats what the file calls its architecture."""
    write_tiny_llama(folder / "tiny-F32.gguf", architecture="[/]\x1b[2J\x1b]0;FORGED\x07")
    spec = spec_in(folder, str(folder / "tiny-F32.gguf"))
    return shown(["run", spec, "--out", folder / "out"], folder, code=1) or _logs(folder / "out")


def _logs(out: Path) -> str | None:
    logs = sorted((out / "logs").iterdir())
    if not logs:
        return "no log was kept"
    for log in logs:
        if not log.name.isascii() or not log.name.isprintable():
            return f"a log is called {log.name!r}"
        if (found := what_steers(log.read_text(encoding="utf-8"), forged_lines=False)) is not None:
            return f"in a log: {found}"
    return None


def streams_that_cannot_take_it(folder: Path) -> str | None:
    """No traceback where the terminal lacks the characters, nobody reads, or the stream is closed."""
    models = folder / "models"
    models.mkdir()
    (models / f"{FILE_NAME}-日本.gguf").write_bytes(gb.small_model(architecture="größe").data())
    command = [sys.executable, "-m", "orchestrator", "fits", str(models), "--vram", "8"]
    base = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT)), "XDG_CACHE_HOME": str(folder)}
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for env, shell in (
        ({"PYTHONIOENCODING": "ascii"}, 'exec "$@"'),
        ({"PYTHONIOENCODING": "latin-1"}, 'exec "$@"'),
        (ascii_only, 'exec "$@"'),
        (ascii_only, 'exec "$@" --json'),
        ({}, '"$@" | head -c 1 >/dev/null'),
        ({}, 'exec "$@" >&-'),
        ({}, 'exec "$@" 2>&-'),
    ):
        done = subprocess.run(
            ["sh", "-c", shell, "sh", *command], capture_output=True, env=base | env, timeout=60, check=False
        )
        if done.returncode or b"Traceback" in done.stderr or b"\x1b" in done.stdout + done.stderr:
            return f"{env} {shell}: code {done.returncode}, {done.stderr[-300:]!r}"
    return None


_TRIED: tuple[tuple[str, Callable[[Path], str | None]], ...] = (
    ("names of files", names_of_files),
    ("metadata: alignment as text, architecture, keys, tensors", metadata),
    ("answers of a Hub", answers_of_a_hub),
    ("arguments", arguments),
    ("keys and values of a spec", keys_of_a_spec),
    ("a machine's file", machine_file),
    ("somebody else's run", a_strangers_run),
    ("streams that cannot take it", streams_that_cannot_take_it),
    ("last words of an engine, in a sweep", last_words_of_an_engine),
    ("[/] as an architecture, in a sweep", architecture_of_a_model),
)
ATTACKS: list[Attack] = [Attack(CATEGORY, name, attempt) for name, attempt in _TRIED]
