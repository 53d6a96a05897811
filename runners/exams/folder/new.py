"""Makes the folder of a new exam: one that runs, with its proof, for a person to make their own of."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Final

from runners.exams.folder.content import ExamFolderError
from runners.exams.folder.languages import LANGUAGES
from runners.exams.folder.settings import NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable
    from pathlib import Path

FORMS: Final = ("tests", "command", "python")
"""What may grade: tests in `exam.toml`, a command that tries the program, or a function in `grader.py`."""


def new_exam(folder: Path, *, language: str = "python", form: str = "tests") -> list[Path]:
    """Writes an exam into a folder that is not there yet, or empty, and returns what was written.

    Args:
        folder: Its last part becomes the exam's name.
        language: What its programs are written in.
        form: What grades them, one of FORMS.

    Raises:
        ExamFolderError: there is something already, no exam may be called that, or there is no such language or form.
    """
    name = folder.absolute().name
    if not NAME.fullmatch(name):
        raise ExamFolderError(
            f"{name!r} cannot be an exam's name", "1 to 64 letters, digits, '.', '_' or '-', a letter or digit first"
        )
    if language not in LANGUAGES:
        raise ExamFolderError(f"no exam is made in {language!r}", f"the languages are: {', '.join(LANGUAGES)}")
    if form not in FORMS:
        raise ExamFolderError(f"no exam is graded by {form!r}", f"there are: {', '.join(FORMS)}")
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if next(folder.iterdir(), None) is not None:
            raise ExamFolderError(f"{folder} is not empty", "give a new name; nothing is written over")
        for path, text in _texts(language, form):
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text.replace("{name}", name).replace("{language}", language), encoding="utf-8")
            written.append(target)
    except OSError as error:
        raise ExamFolderError(f"{error.filename or folder}: cannot be written: {error.strerror or error}") from None
    return written


def _texts(language: str, form: str) -> Iterator[tuple[str, str]]:
    """What the folder holds: path and text, still with placeholders."""
    templates = files("runners.exams.folder").joinpath("templates")

    def text(*path: str) -> str:
        return templates.joinpath(*path).read_text(encoding="utf-8")

    yield "exam.toml", text("exam.toml" if form == "tests" else f"exam-{form}.toml")
    if form == "python":
        yield "grader.py", text("grader.py.txt")
    elif form == "command":
        yield "files/try.py", text("try.py.txt")
    yield "prompt.md", text("prompt.md")
    yield "README.md", text("README.md")
    yield "cheats/cheats.toml", text("cheats.toml")
    yield "mutants.toml", text(language, "mutants.toml")
    for where in ("reference", "cheats"):
        for file in _sorted(templates.joinpath(language, where)):
            yield f"{where}/{file.name.removesuffix('.txt')}", file.read_text(encoding="utf-8")


def _sorted(folder: Traversable) -> list[Traversable]:
    return sorted(folder.iterdir(), key=lambda each: each.name)
