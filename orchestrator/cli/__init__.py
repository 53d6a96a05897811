"""The command line: each command parses its options and calls a function that works without it."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Entry point of the `quantsweep` console script.

    Exit codes: 0 done; 1 the sweep had failures; 2 it could not go on (bad input, full disk, interrupted), with a
    sentence that says what to do, and nothing lost.
    """
    from orchestrator.cli.app import app
    from orchestrator.errors import EXIT_STOPPED

    try:
        app(prog_name="quantsweep")
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped\n")
        sys.exit(EXIT_STOPPED)
    except BrokenPipeError:
        # Whoever read our output has enough of it: `quantsweep show ... | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        from orchestrator.errors import user_errors

        if not isinstance(error, user_errors()):
            raise
        sys.stderr.write(f"error: {error}\n")
        sys.exit(EXIT_STOPPED)
