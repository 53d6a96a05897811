"""The figures of five published reports as rows: readable sources, what is wrong with them, and Parquet made of it."""

from __future__ import annotations

from typing import Final

REPORTS: Final = ("go-exams", "todo-cli", "turtle-cat", "canvas-physics", "tag-manager")
"""The reports by name; each has a source of this name beside this module."""
