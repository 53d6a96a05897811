"""The command line as a person meets it: real processes, real exit codes, and what bad input is answered with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from orchestrator import cli
from orchestrator.cli.app import app
from orchestrator.rundir import RunDir
from results.store import RunStore
from tests.results.conftest import make_row

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SPEC = """\
name = "demo"
seeds = [1, 2]
exams = ["todo"]
[sampling]
max_tokens = 1024
[engine]
context = 2048
[[models]]
name = "stand-in"
source = "builtin:stand-in"
quants = ["Q8_0"]
"""


def quantsweep(*arguments: str | Path, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
        env={**os.environ, **env},
    )


def refused(*arguments: str | Path, cwd: Path | None = None, **env: str) -> str:
    """The text of a refusal: exit code 2, on standard error, without a traceback."""
    done = quantsweep(*arguments, cwd=cwd, **env)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def refused_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """As `refused`, in this process: to start one and import everything takes a second, a refusal hardly any time."""

    def run(*arguments: str | Path) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["quantsweep", *map(str, arguments)])
        assert cli._run() == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "Traceback" not in err
        return err

    return run


def test_help_names_the_commands() -> None:
    text = quantsweep("--help", COLUMNS="80").stdout
    for command in ("run", "plan", "show", "exams", "nodes", "models", "cards", "fits"):
        assert f"\n  {command} " in text
    assert "..." not in text.partition("Commands:")[2]


def test_help_imports_nothing_heavy() -> None:
    probe = "import sys; sys.argv = ['quantsweep', '--help']\nfrom orchestrator.cli import main\ntry: main()\n"
    probe += "except SystemExit: pass\nprint(sorted(m for m in sys.modules if '.' not in m))"
    text = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout
    loaded = set(text.splitlines()[-1].strip("[]").replace("'", "").split(", "))
    assert not loaded & {"ray", "pyarrow", "pydantic", "huggingface_hub", "xllamacpp", "pynvml", "psutil"}


def test_version() -> None:
    assert quantsweep("--version").stdout.startswith("quantsweep 0.")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("seeds = [1, 2]", "seeds = [1, 2"), "demo.toml:"),
        (("seeds =", "seedz ="), "demo.toml:2: seedz: unknown key; did you mean 'seeds'?"),
        (("[[models]]", "[models]"), "demo.toml:8: models: must be tables, each under [[models]]"),
        (("[1, 2]", "[]"), "demo.toml:2: seeds: is empty"),
        (('["todo"]', '["tod"]'), "there is no exam called 'tod'; did you mean 'todo'?"),
        (("context", 'kind = "ollamma"\ncontext'), "engine.kind: there is no engine 'ollamma'"),
        (("context", 'kind = "llama-server"\nbinary = "nowhere/llama-server"\ncontext'), "nowhere/llama-server"),
        (("builtin:stand-in", "missing.gguf"), "missing.gguf"),
        (('["Q8_0"]', '["Q8_1"]'), "Q8_1"),
    ],
)
def test_bad_specs_are_refused_before_anything_runs(
    tmp_path: Path, refused_here: Callable[..., str], change: tuple[str, str], expected: str
) -> None:
    spec = tmp_path / "demo.toml"
    spec.write_text(SPEC.replace(*change))
    said = refused_here("run", spec)
    assert expected in said
    assert said.removeprefix("looking up models ...\n").startswith("error: ")  # that line on a machine that crawls
    assert [path.name for path in tmp_path.iterdir()] == ["demo.toml"]


def test_a_spec_that_is_not_there_is_not_a_built_in_either(tmp_path: Path) -> None:
    assert "Did you mean 'quickstart'?" in refused("run", "quikstart", cwd=tmp_path)
    assert "is a folder" in refused("run", tmp_path)


def test_a_spec_that_is_no_text_is_refused(tmp_path: Path, refused_here: Callable[..., str]) -> None:
    (tmp_path / "demo.toml").write_bytes(b"\xff\xfe\x00")
    assert "not a text file" in refused_here("run", tmp_path / "demo.toml")


def test_show_of_what_is_no_run(tmp_path: Path, refused_here: Callable[..., str]) -> None:
    assert str(tmp_path) in refused("show", tmp_path)
    assert "nowhere" in refused_here("show", tmp_path / "nowhere")


def test_show_while_a_run_goes_on_says_how_far_it_is_and_shows_what_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def show(*more: str) -> str:
        app(["show", str(tmp_path), *more], standalone_mode=False)
        shown = capsys.readouterr()
        assert shown.err == ""
        return shown.out

    folder = RunDir(tmp_path)
    jobs = [{"job_id": f"j{seed}"} for seed in range(6)]
    folder.begin(spec_text=SPEC, spec_digest="d", plan_json=json.dumps({"jobs": jobs}), version="0")
    nothing = f"No attempt in {tmp_path} yet: nothing has been committed."
    assert show() == f"Not finished: 0 of 6 jobs done.\n\n{nothing}\n"
    failed = {"outcome": "server_crash", "outcome_class": "infrastructure", "score": None, "final": False}
    with RunStore(tmp_path) as store:  # as a driver holds it that is at work
        for done in (1, 2):
            store.commit(make_row(job_id=f"j{done}", seed=done))
            store.commit(make_row(job_id="j5", attempt=done, **failed))
            text = show()
            assert f"{done} of {done + 1}" in next(line for line in text.splitlines() if line.startswith("Q4_K_M"))
            assert "1 job begun and not ended" in text
            assert text.startswith(f"Not finished: {done} of 6 jobs done.\n\n")
        value = json.loads(show("--json"))
        assert (value["jobs"], value["planned"], value["summaries"][0]["open_jobs"]) == (2, 6, 1)
        for seed in (0, 3, 4, 5):
            store.commit(make_row(job_id=f"j{seed}", seed=seed, attempt=3))
        assert "Not finished" not in show()


def test_a_run_whose_spec_is_a_pipe_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunDir(tmp_path)
    folder.begin(spec_text=SPEC, spec_digest="d", plan_json="{}", version="0")
    with RunStore(tmp_path) as store:
        store.commit(make_row())
    folder.spec.unlink()
    os.mkfifo(folder.spec)
    app(["show", str(tmp_path)], standalone_mode=False)
    assert "standin on todo" in capsys.readouterr().out


@pytest.mark.parametrize("spec_is_there", [True, False])
def test_tables_come_in_the_order_of_the_spec_else_as_they_first_ran(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spec_is_there: bool
) -> None:
    models = "".join(
        f'[[models]]\nname = "{model}"\nsource = "builtin:stand-in"\n'
        + "".join(f'[[models.variants]]\nname = "{name}"\n' for name in variants)
        for model, variants in (("zeta", ("warm", "cold")), ("alpha", ()))
    )
    text = f'name = "order"\nseeds = [1]\nexams = ["todo"]\n{models}'
    folder = RunDir(tmp_path)
    folder.begin(
        spec_text=text if spec_is_there else "of a later version", spec_digest="d", plan_json="{}", version="0"
    )
    with RunStore(tmp_path) as store:
        ran = [("alpha", "default"), ("zeta", "cold"), ("zeta", "warm")]
        for hour, (model, variant) in enumerate(ran):
            began = {"started_at": f"2026-11-20T0{hour}:00:00Z", "model": model, "variant": variant}
            for quant in ("Q8_0", "Q2_K"):
                store.commit(make_row(job_id=f"{hour}{quant}", quant=quant, **began))
    app(["show", str(tmp_path)], standalone_mode=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if " on todo (/100)" in line]
    names = [line.partition(" on todo")[0] for line in lines]
    assert names == (
        ["zeta (warm)", "zeta (cold)", "alpha"] if spec_is_there else ["alpha", "zeta (cold)", "zeta (warm)"]
    )


def test_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "demo.toml").write_text(SPEC)
    text = refused("run", tmp_path / "demo.toml", "--address", "ray://127.0.0.1:1", cwd=tmp_path)
    assert "Ray Client addresses are not supported" in text
    text = refused("run", tmp_path / "demo.toml", "--address", "127.0.0.1:1", cwd=tmp_path)
    assert "127.0.0.1:1: nothing listens there" in text


def test_plan_prints_cells_and_json(tmp_path: Path) -> None:
    (tmp_path / "demo.toml").write_text(SPEC)
    text = quantsweep("plan", tmp_path / "demo.toml").stdout
    assert "demo: 1 cell x 2 jobs = 2 jobs" in text
    assert "Q8_0" in text
    cell = json.loads(quantsweep("plan", tmp_path / "demo.toml", "--json").stdout)["cells"][0]
    assert (cell["quant"], cell["jobs"], cell["missing"]) == ("Q8_0", 2, None)
    assert cell["verdicts"]["cpu"]["headroom_bytes"] > 0


def test_exams_are_listed() -> None:
    assert {"go-v1", "todo"} <= {line.partition(" ")[0] for line in quantsweep("exams").stdout.splitlines()}
    assert "todo" in {exam["name"] for exam in json.loads(quantsweep("exams", "--json").stdout)}


def test_an_exam_that_does_not_exist_cannot_be_checked() -> None:
    assert "there is no exam called 'go'" in refused("exams", "check", "go")


@pytest.mark.parametrize(
    ("number", "module"),
    [
        (signal.SIGINT, "orchestrator.terminal"),
        (signal.SIGINT, "orchestrator.spec"),
        (signal.SIGTERM, "typer"),
        (signal.SIGHUP, "orchestrator.spec"),
    ],
)
def test_a_signal_while_a_command_starts_ends_it_quietly(tmp_path: Path, number: signal.Signals, module: str) -> None:
    """The signal comes in the middle of an import, where nothing of the command itself runs yet."""
    (tmp_path / "demo.toml").write_text(SPEC)
    program = f"""
import os, signal, sys
signal.signal({int(number)}, signal.SIG_DFL)  # one that is ignored, as in a shell's background job, stays ignored
class Sender:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r} and self in sys.meta_path:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {int(number)})
from orchestrator.cli import main
sys.argv = ["quantsweep", "plan", {str(tmp_path / "demo.toml")!r}]
sys.meta_path.insert(0, Sender())
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "\nstopped\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_code_that_is_made_from_a_text_ends_it_as_any_other(
    tmp_path: Path, number: signal.Signals
) -> None:
    """As in a namedtuple, or a dataclass: CPython would end `python -m` by SIGINT in spite of its exit code."""
    (tmp_path / "demo.toml").write_text(SPEC)
    program = f"""
import os, signal, sys
signal.signal({int(number)}, signal.SIG_DFL)
class Sender:
    def find_spec(self, name, path=None, target=None):
        if name == "orchestrator.spec" and self in sys.meta_path:
            sys.meta_path.remove(self)
            exec("import os; os.kill(os.getpid(), {int(number)}); [None for _ in range(1000)]")
from orchestrator.cli import main
sys.argv = ["quantsweep", "plan", {str(tmp_path / "demo.toml")!r}]
sys.meta_path.insert(0, Sender())
main()
"""
    (tmp_path / "sender.py").write_text(program)
    path = os.pathsep.join([str(tmp_path), *(entry for entry in sys.path if entry)])
    done = subprocess.run(
        [sys.executable, "-m", "sender"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "\nstopped\n")


@pytest.mark.parametrize("module", ["orchestrator.cli", "typing"])
def test_ctrl_c_in_the_first_moments_leaves_no_traceback(module: str) -> None:
    """Before the command has handlers: while its first modules are imported."""
    program = f"""
import os, runpy, signal, sys
sys.modules.pop({module!r}, None)
class Sender:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.argv = ["quantsweep", "--version"]
sys.meta_path.insert(0, Sender())
runpy.run_module("orchestrator", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ('mount -t tmpfs -o size=12k none "$0" && dd if=/dev/zero of="$0/x" bs=1k count=99; "$@"', "No space left"),
        ('mount -t tmpfs -o nr_inodes=3 none "$0" && "$@"', "No space left"),
        ('mount -t tmpfs -o ro none "$0" && "$@"', "Read-only file system"),
        ('ulimit -f 0; "$@"', "File too large"),
    ],
    ids=["full", "no inodes", "read-only", "no file may grow"],
)
def test_a_run_that_cannot_be_begun_says_why(tmp_path: Path, script: str, said: str) -> None:
    """In a mount namespace of its own, which an ordinary user may make."""
    folder, spec = tmp_path / "disk", tmp_path / "demo.toml"
    folder.mkdir()
    spec.write_text(SPEC)
    command = [sys.executable, "-m", "orchestrator", "run", str(spec), "--out", str(folder / "run")]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(folder), *command],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert said in done.stderr


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ('"$@" --help > /dev/full', "No space left on device"),
        ('ulimit -f 0; "$@" exams check todo', "emporary"),
    ],
    ids=["full output", "no temporary folder"],
)
def test_what_a_machine_refuses_is_a_sentence(tmp_path: Path, script: str, said: str) -> None:
    command = [sys.executable, "-m", "orchestrator"]
    done = subprocess.run(
        ["sh", "-c", script, "sh", *command], capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
