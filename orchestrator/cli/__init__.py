"""The command line: each command parses its options and calls a function that works without it."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, NoReturn


def main() -> None:
    """Entry point of the `quantsweep` console script.

    Exit codes: 0 done; 1 the sweep had failures; 2 it could not go on (bad input, full disk, interrupted), with a
    sentence that says what to do, and nothing lost.
    """
    try:
        _stop_on(_interrupt)
        from orchestrator import terminal

        terminal.guard()
        code = _run()
    except KeyboardInterrupt:
        code = _stopped()
    _stop_on(signal.SIG_DFL)  # from here on a signal ends us at once, and without a traceback
    if (closing := sys.modules.get("orchestrator.cluster.closing")) is not None:
        closing.leave(code)  # Ray may hang, and would have the interpreter crash instead of ending
    sys.exit(code)


class _InterruptError(KeyboardInterrupt):
    """A signal that ends the command.

    Not KeyboardInterrupt itself: where that passes through code that is executed from a text (a namedtuple's, in the
    middle of an import), CPython remembers it, and ends the process by SIGINT whatever its exit code
    (`unhandled_keyboard_interrupt` in Python/pythonrun.c and Modules/main.c).
    """


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _InterruptError


def _stop_on(handler: Callable[[int, FrameType | None], Any] | signal.Handlers) -> None:
    """Has `handler` take the signals that end a command; what was ignored before (nohup) stays ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _stopped() -> int:
    """The end of a command that was interrupted, wherever it was: a word, and the exit code."""
    _stop_on(signal.SIG_IGN)  # a second Ctrl-C has nothing more to stop
    from orchestrator import terminal
    from orchestrator.errors import EXIT_STOPPED

    terminal.stderr().say("", "stopped")
    return EXIT_STOPPED


def _run() -> int:
    from orchestrator import terminal
    from orchestrator.cli.app import app
    from orchestrator.errors import EXIT_DONE, EXIT_STOPPED, lines_of, machine_trouble, user_errors

    try:
        code = app(prog_name="quantsweep", standalone_mode=False)
    except terminal.ReaderGoneError:
        return EXIT_DONE
    except Exception as error:
        if _is_usage_error(error):
            _explain(error)
        elif isinstance(error, user_errors()):
            terminal.stderr().complain(*lines_of(error))
        elif isinstance(error, OSError | MemoryError):
            terminal.stderr().complain(*machine_trouble(error))
        else:
            raise
        return EXIT_STOPPED
    if code == _INTERRUPTED:
        return _stopped()
    return code if isinstance(code, int) else EXIT_DONE


_INTERRUPTED = 130
"""What Typer makes of a KeyboardInterrupt."""


def _is_usage_error(error: Exception) -> bool:
    import typer

    # Told by its ancestor's name: Typer has a copy of Click since 0.25, and imported it before.
    return any(kind.__name__ == "ClickException" and isinstance(error, kind) for kind in typer.BadParameter.__mro__)


def _explain(error: Exception) -> None:
    """What Typer says of a command line that it does not understand; it would print the argument as it is."""
    from orchestrator import terminal

    err = terminal.stderr()
    message = str(error.format_message()) if hasattr(error, "format_message") else str(error)
    if type(error).__name__ == "NoArgsIsHelpError":
        err.say(*message.splitlines())
        return
    context = getattr(error, "ctx", None)
    if context is not None:
        err.say(*context.get_usage().splitlines(), f"Try '{context.command_path} --help' for help.")
    err.complain(message)
