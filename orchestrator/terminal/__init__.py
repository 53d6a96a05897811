"""The one exit to the terminal: all that a person reads goes through here, and nothing in it steers a terminal.

Nothing else in quantsweep writes to a standard stream; `tests/test_structure.py` sees to that. Texts are kept as they
came everywhere else (in rows, in the journal, in JSON), and made inert here.
"""

from orchestrator.terminal.guard import ReaderGoneError, guard
from orchestrator.terminal.inert import block, inert, line
from orchestrator.terminal.printer import Json, Part, Printer, stderr, stdout

__all__ = ["Json", "Part", "Printer", "ReaderGoneError", "block", "guard", "inert", "line", "stderr", "stdout"]
