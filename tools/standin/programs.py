"""Does a program of the corpus work? Takes it through seven calls in a fresh folder and reads what it printed."""

import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path

STEPS = (("add", "Buy milk"), ("add", "Walk dog"), ("list",), ("complete", "1"), ("list",), ("delete", "1"), ("list",))


def call(path: Path, arguments: tuple[str, ...]) -> tuple[int, str, str]:
    """Run a program of our own generator in this process, so that thousands take seconds: exit code, output, errors."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    argv, folder = sys.argv, Path.cwd()
    os.chdir(path.parent)
    sys.argv = [str(path), *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        code = int(end.code or 0)
    except Exception as error:
        code = 1
        err.write(f"{type(error).__name__}: {error}")
    finally:
        sys.argv = argv
        os.chdir(folder)
    return code, out.getvalue(), err.getvalue()


def failure_of(program: str) -> str | None:
    """What is wrong with `program`, in a few words, or None if it works."""
    printed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="standin-") as folder:
        path = Path(folder) / "todo.py"
        path.write_text(program, encoding="utf-8")
        for step in STEPS:
            code, out, err = call(path, step)
            if code != 0:
                return f"{' '.join(step)}: {(err.strip().splitlines() or [f'exit code {code}'])[-1]}"
            printed.append(out)
    first, second, third = printed[2], printed[4], printed[6]
    if not ("Buy milk" in first and "Walk dog" in first):
        return "list does not show what was added"
    if first == second:
        return "complete changes nothing in the list"
    if "Buy milk" in third or "Walk dog" not in third:
        return "delete leaves the wrong items"
    return None
