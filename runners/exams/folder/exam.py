"""An exam that is a folder, ours or a user's own: what it asks, its grader in one of three forms, and its proof."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from runners.chat import Message
from runners.exams.base import Grade, Specimen, Task, Transcript, ask_once
from runners.exams.folder.content import Content, ExamFolderError, digest_of, read_content
from runners.exams.folder.grading import grade_reply
from runners.exams.folder.python_grader import AS_REPLY, grade_with, load_grader
from runners.exams.folder.settings import EXAM_TOML, ExamSettings, read_settings
from runners.exams.folder.specimens import fenced, read_specimens
from runners.sandbox.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from runners.exams.base import Chat
    from runners.exams.box import Box

_FORM: Final = "1"
"""How the forms without Python grade; part of every grader's version, raised when a score can come out otherwise."""
_PROMPT_CHARS: Final = 1_000_000
_PROOF: Final = (
    "reference/",
    "reference.toml",
    "mutants/",
    "mutants.toml",
    "cheats/",
    "cheats.toml",
    "published/",
    "published.toml",
)


@dataclass(frozen=True)
class FolderExam:
    """An exam made of the files of a folder; see `Exam`. What happens to the folder later does not change it.

    `package` is the package that the folder is, where it is one of ours: its grader is imported from there, and its
    versions are those that `exam.toml` says, which a test holds to what they stand for. It is empty for a user's.
    """

    settings: ExamSettings
    content: Content
    prompts: tuple[str, ...]
    package: str = ""

    @property
    def name(self) -> str:
        """See `Exam`."""
        return self.settings.name

    @property
    def score_max(self) -> float:
        """See `Exam`."""
        return self.settings.score_max

    @property
    def scorings(self) -> tuple[str, ...]:
        """See `Exam`."""
        return self.settings.scorings

    @property
    def language(self) -> str:
        """See `Exam`."""
        return self.settings.language

    @property
    def needs(self) -> frozenset[str]:
        """See `Exam`."""
        return self.settings.needs

    @cached_property
    def prompt_version(self) -> str:
        """A digest of what every task asks; a number for ours."""
        if self.package:
            return self.settings.prompt_version
        asked = [[task.name, [message.to_json() for message in task.messages]] for task in self.tasks()]
        return f"folder-{_digest(asked)}"

    @cached_property
    def grader_version(self) -> str:
        """A digest of what can change a score (`scores_by`); a number for ours."""
        return self.settings.grader_version if self.package else f"folder-{self.scores_by}"

    @cached_property
    def scores_by(self) -> str:
        """A digest of what can change a score: settings, and all files but prompts and proof."""
        scoring = self.settings.scoring()
        deciding = {path: data for path, data in self.content.files.items() if self._decides(path)}
        return _digest([_FORM, scoring, digest_of(deciding)])

    def _decides(self, path: str) -> bool:
        """Whether a file may decide a score."""
        inner = path
        if path.startswith("tasks/"):
            inner = path.split("/", 2)[-1]
        return not inner.startswith(_PROOF) and inner not in {"prompt.md", EXAM_TOML, "README.md"}

    def tasks(self) -> tuple[Task, ...]:
        """See `Exam.tasks`."""
        return tuple(
            Task(name, (Message(role="user", content=prompt),))
            for name, prompt in zip(self.settings.tasks, self.prompts, strict=True)
        )

    def solve(self, task: Task, chat: Chat, _box: Box) -> Transcript:
        """See `Exam.solve`."""
        return ask_once(task, chat)

    def specimens(self) -> list[Specimen]:
        """See `Exam.specimens`."""
        wrap = fenced(self.language)
        if self.settings.python is not None:
            wrap = getattr(self._grader(), AS_REPLY, wrap)
        with Scratch() as scratch:
            self.content.write_to(scratch.path)
            found = []
            if self.settings.tasks == ("main",):
                found = read_specimens(scratch.path, wrap, scorings=self.scorings, score_max=self.score_max)
            else:
                for task in self.settings.tasks:
                    found += read_specimens(
                        scratch.path / "tasks" / task,
                        wrap,
                        scorings=self.scorings,
                        score_max=self.score_max,
                        task=task,
                    )
        answered = {each.task for each in found if each.kind == "reference"}
        for task in self.settings.tasks:
            if task not in answered and "" not in answered:
                where = "reference/" if task == "main" else f"tasks/{task}/reference/"
                raise ExamFolderError(
                    f"exam {self.name!r} has no reference for {task!r}: nothing proves that its grader is right",
                    f"put an answer with full marks into {where}",
                )
        return found

    def grade(self, task: Task, transcript: Transcript, box: Box) -> Grade:
        """See `Exam.grade`."""
        if self.settings.python is not None:
            box.limits = self.settings.limits
            return grade_with(self._grader(), self.settings, task, transcript, box)
        beside = files_of(self.content, task.name)
        return grade_reply(self.settings, task, transcript.reply, beside, box)

    def _grader(self) -> ModuleType:
        """The module that `[grader]` names."""
        if self.package:
            return import_module(f"{self.package}.{(self.settings.python or '').removesuffix('.py')}")
        return load_grader(_unpacked(self.content), self.settings, self.content.sha256)


def files_of(content: Content, task: str) -> dict[str, bytes]:
    """What lies in the box of a task, by path there: the exam's files, and the task's own over them."""
    return {inner: content.files[path] for path, inner in _in_box(content, task)}


def _in_box(content: Content, task: str) -> Iterator[tuple[str, str]]:
    """The path in the exam's folder and in a task's box of each file that goes there; what comes later counts."""
    for folder in ("files", f"tasks/{task}/files"):
        for path in content.below(folder):
            yield path, path.removeprefix(f"{folder}/")


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()[:16]


def open_exam(folder: Path) -> FolderExam:
    """The exam in a folder.

    Raises:
        ExamFolderError: it is no exam; the message says what is wrong with which file.
    """
    if folder.is_dir() and not os.path.lexists(folder / EXAM_TOML):
        raise _no_exam(folder)  # before anything that lies there is complained of: it may be any folder
    return exam_of(read_content(folder), folder)


def _no_exam(folder: Path) -> ExamFolderError:
    return ExamFolderError(
        f"{folder} is no exam: it has no {EXAM_TOML}", "`quantsweep exams new NAME` makes one that runs"
    )


@lru_cache
def packaged_exam(package: str) -> FolderExam:
    """One of ours, by the package that its folder is; read once a process.

    Raises:
        ExamFolderError: it is not as it was installed.
    """
    return replace(open_exam(Path(str(files(package)))), package=package)


@lru_cache(maxsize=8)
def unpack_exam(packed: bytes) -> FolderExam:
    """The exam that another process packed (`Content.pack`).

    Raises:
        ExamFolderError: it is damaged, or of a version of quantsweep that allows what this one does not.
    """
    return exam_of(Content.unpack(packed), Path("the exam's folder"))


def exam_of(content: Content, folder: Path) -> FolderExam:
    """The exam that some files make; `folder` is what errors call the place where they lie.

    Raises:
        ExamFolderError: they make none.
    """
    text = _text(content, folder, EXAM_TOML)
    if text is None:
        raise _no_exam(folder)
    settings = read_settings(text, str(folder / EXAM_TOML))
    prompts = []
    for task, path in zip(settings.tasks, _prompt_paths(settings), strict=True):
        prompt = (_text(content, folder, path) or "").strip()
        if not prompt or len(prompt) > _PROMPT_CHARS:
            what = f"longer than {_PROMPT_CHARS:,} characters" if prompt else "missing, or empty"
            raise ExamFolderError(f"{folder / path}: the prompt is {what}", "write there what the model is asked")
        prompts.append(_with_inserts(prompt, settings, content, folder))
        _refuse_clashes(settings, content, folder, task)
    for word, _ in settings.inserts:
        if not any(word in (_text(content, folder, path) or "") for path in _prompt_paths(settings)):
            raise ExamFolderError(
                f"{folder / EXAM_TOML}: no prompt holds {word!r}, which [prompt] insert names",
                "put it where the text of its file belongs",
            )
    if settings.python is not None and settings.python not in content.files:
        raise ExamFolderError(f"{folder / settings.python}: there is no such file", "[grader] names it in exam.toml")
    return FolderExam(settings, content, tuple(prompts))


def _refuse_clashes(settings: ExamSettings, content: Content, folder: Path, task: str) -> None:
    """Refuses files of a task's box that cannot lie there together, or where the answer belongs.

    Raises:
        ExamFolderError: names the paths.
    """
    places = {inner: path for path, inner in _in_box(content, task)}
    answer = settings.filename
    for inner, path in places.items():
        if inner == answer or inner.startswith(f"{answer}/"):
            raise ExamFolderError(
                f"{folder / path}: {answer!r} is what the answer is called",
                "rename it, or give another filename in exam.toml",
            )
        for parent in PurePosixPath(inner).parents:
            if other := places.get(str(parent)):
                raise ExamFolderError(
                    f"{folder / path} and {folder / other} go into one box, where {str(parent)!r} cannot be "
                    "both a file and a folder",
                    "rename one of them",
                )


def _prompt_paths(settings: ExamSettings) -> list[str]:
    """Where each task's prompt lies."""
    several = settings.tasks != ("main",)
    return [f"tasks/{task}/prompt.md" if several else "prompt.md" for task in settings.tasks]


def _with_inserts(prompt: str, settings: ExamSettings, content: Content, folder: Path) -> str:
    """The prompt with the texts of files where `[prompt] insert` has them; what is inserted is not looked through."""
    for word, path in settings.inserts:
        text = _text(content, folder, path)
        if text is None:
            raise ExamFolderError(f"{folder / path}: there is no such file", "[prompt] insert names it in exam.toml")
        prompt = prompt.replace(word, text.strip())
    return prompt


def _text(content: Content, folder: Path, path: str) -> str | None:
    try:
        return content.text(path)
    except ExamFolderError as error:
        raise ExamFolderError(f"{folder}/{error.message}", error.hint) from None


_places: dict[tuple[int, str], Scratch] = {}
_unpacking = threading.Lock()


def _unpacked(content: Content) -> Path:
    """Where the files of an exam lie for its grader.py, once a process; who comes after a kill removes them."""
    key = (os.getpid(), content.sha256)
    with _unpacking:
        if key not in _places:
            scratch = Scratch()
            content.write_to(scratch.path)
            _places[key] = scratch
            import atexit

            atexit.register(scratch.remove)
        return _places[key].path
