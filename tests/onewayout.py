"""Finds, in a module, every way to a terminal that does not go through `orchestrator.terminal`."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_BUILTINS = {"print", "input", "breakpoint", "help"}
_SYS = {"stdout", "stderr", "__stdout__", "__stderr__", "displayhook", "excepthook"}
# Anything of these libraries that prints by itself, by the name it is imported or reached by.
_OF_LIBRARIES = {
    "click": {"echo", "secho", "echo_via_pager", "prompt", "confirm", "progressbar", "launch", "edit", "pause"},
    "typer": {"echo", "secho", "echo_via_pager", "prompt", "confirm", "progressbar", "launch", "edit", "pause"},
    "rich": {"print", "print_json", "inspect", "get_console"},
    "rich.console": {"Console"},
    "rich.live": {"Live"},
    "rich.markup": {"render"},
    "rich.pretty": {"pprint", "install"},
    "rich.progress": {"Progress", "track"},
    "rich.prompt": {"Prompt", "Confirm"},
    "rich.status": {"Status"},
    "rich.traceback": {"install", "Traceback"},
    "logging": {"basicConfig", "StreamHandler", "lastResort"},
    "warnings": {"warn", "showwarning", "warn_explicit"},
    "traceback": {"print_exc", "print_exception", "print_stack", "print_tb", "print_last"},
    "faulthandler": {"enable", "dump_traceback", "dump_traceback_later"},
    "pprint": {"pprint", "pp"},
    "getpass": {"getpass"},
    "curses": {"initscr", "wrapper"},
    "tqdm": {"tqdm", "trange"},
}
_METHODS = {"print", "print_exception", "print_json", "write_line"}
_FILES = {"/dev/tty", "/dev/stdout", "/dev/stderr", "/dev/console", "/proc/self/fd/1", "/proc/self/fd/2"}
_STARTS = {"run", "Popen", "call", "check_call", "check_output", "getoutput", "getstatusoutput"}


def ways_out(tree: ast.AST) -> list[str]:
    """`line: what` for each way to the terminal."""
    nodes = list(ast.walk(tree))
    typing_only = {
        id(inner)
        for node in nodes
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = [
        (node.lineno, what)
        for node in nodes
        if id(node) not in typing_only and isinstance(node, ast.expr | ast.ImportFrom)
        for what in _of(node)
    ]
    return [f"{line}: {what}" for line, what in sorted(found)]


def children(tree: ast.AST) -> list[str]:
    """`line: what` for each start of a process that leaves a stream or the environment to be inherited."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (started := _start(node)):
            given = {keyword.arg for keyword in node.keywords}
            if "capture_output" in given:
                given |= {"stdout", "stderr"}
            missing = [name for name in ("stdin", "stdout", "stderr", "env") if name not in given]
            found += [(node.lineno, f"{started} without {name}=") for name in missing]
    return [f"{line}: {what}" for line, what in sorted(found)]


def _of(node: ast.expr | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom):
        names = {alias.name for alias in node.names}
        taken = names & (_SYS if node.module == "sys" else _OF_LIBRARIES.get(node.module or "", set()))
        yield from (f"from {node.module} import {name}" for name in taken)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _BUILTINS:
        yield f"{node.func.id}()"
    elif isinstance(node, ast.Attribute):
        owner = ast.unparse(node.value)
        if node.attr in (_SYS if owner == "sys" else _OF_LIBRARIES.get(owner, set())):
            yield f"{owner}.{node.attr}"
        elif node.attr in _METHODS:
            yield f".{node.attr}"
    elif isinstance(node, ast.Constant) and node.value in _FILES:
        yield repr(node.value)
    if isinstance(node, ast.Call) and ast.unparse(node.func) in {"os.write", "os.writev", "os.dup2", "os.system"}:
        to = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
        if {1, 2} & {each for each in to if isinstance(each, int)} or ast.unparse(node.func) == "os.system":
            yield ast.unparse(node)


def _start(call: ast.Call) -> str | None:
    """What `call` starts a process with, directly or as `functools.partial` will."""
    for each in (call.func, *call.args):
        if isinstance(each, ast.Attribute) and each.attr in _STARTS and ast.unparse(each.value) == "subprocess":
            return ast.unparse(each)
    name = ast.unparse(call.func)
    return name if name in {"os.popen", "os.system", "asyncio.create_subprocess_exec", "pty.spawn"} else None
