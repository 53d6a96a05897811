"""Where the stand-in model's files lie; it is no real model.

A small Llama trained on nothing but to-do programs, so that a sweep can be tried in seconds on any machine.
`tools/standin/build.py` makes the files; README.md beside this module says what they are and what was measured.
"""

from pathlib import Path
from typing import Final

STANDIN_DIR: Final[Path] = Path(__file__).resolve().parent
"""Folder with `standin-<QUANT>.gguf`, one file per quant, and `SHA256SUMS`."""
