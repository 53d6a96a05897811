"""Where the program begins, by either way: the `quantsweep` console script, or `python -m orchestrator`.

Nothing else imports it: it takes Ctrl-C for itself before it imports anything. Until the command has handlers of its
own, Ctrl-C ends the process by the signal, without the traceback of an import that was under way.
"""

import _signal  # type: ignore[import-not-found]  # typeshed has `signal` only, which is longer on its way

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

from orchestrator.cli import main

if __name__ == "__main__":
    main()
