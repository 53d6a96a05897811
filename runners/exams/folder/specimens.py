"""The answers that prove a grader, as they lie in an exam's folder: `reference/`, `mutants/`, `cheats/`, `published/`.

An entry is one answer. A `.md` file is a whole reply, word for word; any other file, or a folder of files, is source,
which `wrap` makes a reply of, as a model would hand it over (a fence for Python, markers for Go). Its name without the
suffix is the specimen's. A `.txt` behind another suffix (`todo.py.txt`) is not part of a file's name: it keeps tools
for that language away.

    reference/correct.py            full marks; the first by name is the one that mutants.toml changes
    reference/reference.toml        [name] exactly = { published = 9 }, of a scoring that gives it less
    mutants/forgets-delete.py       a mutant that is a whole answer; what it loses stands in mutants.toml
    mutants.toml                    [name] find, replace (and more = [[find, replace], ...]), of = "correct",
                                    loses = ["item", ...]; may lie in mutants/ as well
    cheats/prints-success.py
    cheats/cheats.toml              [name] most = 20, or a table of points by scoring; what is not named gets 0
    published/works.py              somebody's answer of which the score is known
    published/published.toml        [name] exactly = 100, or a table of points by scoring

`find` stands exactly once in the reference, in whichever of its files; the mutant would prove nothing otherwise.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from profiles.toml_lines import line_of_dotted_key
from runners.errors import RunnersError
from runners.exams.base import Specimen
from runners.exams.folder.tables import MOST_CHARACTERS, MOST_DOTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from importlib.resources.abc import Traversable

    Files = Mapping[str, str]

_REPLY: Final = ".md"
_MOST_POINTS: Final = 1e6
_KEYS: Final = {
    "reference": {"exactly"},
    "mutants": {"find", "replace", "more", "of", "loses"},
    "cheats": {"most"},
    "published": {"exactly"},
}


@dataclass(frozen=True)
class _Marks:
    """What points an exam has: its scorings, and full marks."""

    scorings: Sequence[str]
    most: float


class SpecimenError(RunnersError):
    """What should prove a grader cannot be read; the message names the file."""


class Wrap(Protocol):
    """Makes a reply of source: the text of each file by its path (`main.go`, `store/disk.go`), one of them or more."""

    def __call__(self, files: Files, /) -> str:
        """The reply."""
        ...


@dataclass(frozen=True)
class _Entry:
    """One answer as it lies there.

    Attributes:
        files: Text by path within the entry; a single file has its own name.
        is_reply: It is a whole reply.
    """

    name: str
    files: Files
    is_reply: bool

    def text(self, wrap: Wrap) -> str:
        return next(iter(self.files.values())) if self.is_reply else wrap(self.files)


def fenced(language: str) -> Wrap:
    """Wraps source as most models do: each file in a fence, which bears its path as well where there are several."""

    def wrap(files: Files, /) -> str:
        blocks = []
        for path, text in files.items():
            ticks = "`" * max(3, _longest_run(text) + 1)
            label = language if len(files) == 1 else f"{language} {path}"
            end = "" if text.endswith("\n") else "\n"
            blocks.append(f"{ticks}{label}\n{text}{end}{ticks}\n")
        return "\n".join(blocks)

    return wrap


def read_specimens(
    folder: Traversable,
    wrap: Wrap,
    *,
    scorings: Sequence[str] = ("points",),
    score_max: float = _MOST_POINTS,
    task: str = "",
) -> list[Specimen]:
    """The specimens of an exam's folder, or of one of its tasks, in the order reference, published, mutant, cheat.

    Args:
        folder: A `Path`, or what `importlib.resources.files` gives.
        wrap: Makes a reply of source.
        scorings: The exam's; a bound that is a number holds for all of them.
        score_max: The exam's full marks, which no bound can exceed.
        task: The task that they answer; empty for the exam's first.

    Raises:
        SpecimenError: an entry or a table cannot be read, or a passage to replace is not there exactly once.
    """
    references = list(_entries(folder, "reference"))
    marks = _Marks(scorings, score_max)
    found = _references(folder, references, wrap, marks, task)
    found += _bounded(folder, "published", wrap, marks, task)
    found += _mutants(folder, references, wrap, task)
    found += _bounded(folder, "cheats", wrap, marks, task)
    return found


def _references(folder: Traversable, entries: Sequence[_Entry], wrap: Wrap, marks: _Marks, task: str) -> list[Specimen]:
    """Answers with full marks; with less where the table says so of a scoring."""
    table = _table(folder, "reference")
    _refuse_unknown(table, {entry.name: entry for entry in entries}, "reference")
    found = []
    for entry in entries:
        what = f"reference.toml: exactly of {entry.name!r}"
        bounds = _bounds(table.get(entry.name, {}).get("exactly", {}), what, marks)
        found.append(Specimen(entry.name, "reference", entry.text(wrap), bounds=bounds, task=task))
    return found


def _bounded(
    folder: Traversable, where: Literal["published", "cheats"], wrap: Wrap, marks: _Marks, task: str
) -> list[Specimen]:
    """Answers whose points are bounded by a table: a cheat that the table does not name may get none."""
    table = _table(folder, where)
    entries = {entry.name: entry for entry in _entries(folder, where)}
    _refuse_unknown(table, entries, where)
    key, kind = ("exactly", "published") if where == "published" else ("most", "cheat")
    specimens = []
    for name, entry in entries.items():
        given = table.get(name, {})
        if key not in given and where == "published":
            raise SpecimenError(f"{where}.toml does not say what {name!r} scores", f"add [{name}] {key} = ...")
        what = f"{where}.toml: {key} of {name!r}"
        bounds = _bounds(given.get(key, 0), what, marks)
        if kind == "cheat":
            bounds = dict.fromkeys(marks.scorings, 0.0) | bounds
        elif not bounds:
            raise SpecimenError(f"{what} names no scoring", f"the scorings are: {', '.join(marks.scorings)}")
        specimens.append(Specimen(name, kind, entry.text(wrap), bounds=bounds, task=task))  # type: ignore[arg-type]  # one of the two above
    return specimens


def _bounds(given: Any, what: str, marks: _Marks) -> dict[str, float]:
    scorings = marks.scorings
    bounds = given if isinstance(given, dict) else dict.fromkeys(scorings, given)
    for scoring, points in bounds.items():
        if scoring not in scorings:
            raise SpecimenError(f"{what} names the scoring {scoring!r}", f"the scorings are: {', '.join(scorings)}")
        if isinstance(points, bool) or not isinstance(points, int | float):
            said = f"{points!r:.80}"
            raise SpecimenError(f"{what} is {said}", "give points: a number, or a table of numbers by scoring")
        if not 0 <= points <= marks.most:  # false of nan as well
            raise SpecimenError(f"{what} is {points!s:.40}", f"give points from 0 to full marks, {marks.most:g}")
    return {scoring: float(points) for scoring, points in bounds.items()}


def _mutants(folder: Traversable, references: list[_Entry], wrap: Wrap, task: str) -> list[Specimen]:
    table = _table(folder, "mutants")
    entries = {entry.name: entry for entry in _entries(folder, "mutants")}
    _refuse_unknown({name: each for name, each in table.items() if "find" not in each}, entries, "mutants")
    made = {
        name: _mutated(name, each, _reference(name, each, references)) for name, each in table.items() if "find" in each
    }
    if twice := made.keys() & entries.keys():
        raise SpecimenError(f"mutant {min(twice)!r} is in mutants/ and has a `find` too", "keep one of the two")
    return [
        Specimen(name, "mutant", entry.text(wrap), loses=_loses(name, table.get(name, {})), task=task)
        for name, entry in (made | entries).items()
    ]


def _reference(name: str, mutant: Mapping[str, Any], references: list[_Entry]) -> _Entry:
    """The answer that a mutant is made of."""
    wanted = mutant.get("of")
    for entry in references:
        if wanted in {None, entry.name}:
            return entry
    missing = f"no reference called {wanted!r}" if references else "no reference"
    raise SpecimenError(f"mutant {name!r}: there is {missing}", "put one into reference/")


def _mutated(name: str, mutant: Mapping[str, Any], reference: _Entry) -> _Entry:
    """The reference with one passage, and what hangs together with it, replaced."""
    files = dict(reference.files)
    for pair in ([mutant["find"], mutant.get("replace")], *_list(mutant.get("more", []))):
        match pair:
            case [str(old), str(new)] if old:
                pass
            case _:
                raise SpecimenError(
                    f"mutants.toml: {name!r} needs texts in find and replace, and pairs of texts in more",
                    "give find and replace",
                )
        times = sum(text.count(old) for text in files.values())
        if times != 1:
            raise SpecimenError(
                f"mutants.toml: what {name!r} replaces is in the reference {times} times instead of once: {old[:80]!r}",
                "give a passage of the reference that is there once",
            )
        files = {path: text.replace(old, new) for path, text in files.items()}
    return _Entry(name, files, reference.is_reply)


def _loses(name: str, mutant: Mapping[str, Any]) -> tuple[str, ...]:
    loses = _list(mutant.get("loses", []))
    if not all(isinstance(item, str) for item in loses):
        raise SpecimenError(f"mutants.toml: what {name!r} loses is no list of items", 'give loses = ["item", ...]')
    return tuple(loses)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _refuse_unknown(table: Mapping[str, Any], entries: Mapping[str, _Entry], where: str) -> None:
    if unknown := table.keys() - entries.keys():
        raise SpecimenError(
            f"{where}.toml names {min(unknown)!r}, and there is no such entry in {where}/",
            f"the entries are: {', '.join(entries) or 'none'}",
        )


def _table(folder: Traversable, where: str) -> dict[str, Any]:
    """`where`.toml, beside the folder of that name or in it; empty where there is none."""
    for place in (folder.joinpath(f"{where}.toml"), folder.joinpath(where, f"{where}.toml")):
        if not place.is_file():
            continue
        try:
            table = tomllib.loads(_bounded_toml(place))
        except (ValueError, RecursionError) as error:
            raise SpecimenError(f"{place}: not valid TOML: {error}") from None
        for name, each in table.items():
            if not isinstance(each, dict):
                raise SpecimenError(f"{place}: {name!r} is no table", f"write [{name}], and its keys below that")
            if unknown := each.keys() - _KEYS[where]:
                known = ", ".join(sorted(_KEYS[where]))
                raise SpecimenError(f"{place}: unknown key {min(unknown)!r} in [{name}]", f"the keys are: {known}")
        return table
    return {}


def _bounded_toml(place: Traversable) -> str:
    """The text of a table, refused where reading it would take for ever."""
    text = _text(place)
    if len(text) > MOST_CHARACTERS:
        raise SpecimenError(f"{place}: it has more than {MOST_CHARACTERS:,} characters", "put long answers into files")
    if line := line_of_dotted_key(text, MOST_DOTS):
        raise SpecimenError(f"{place}:{line}: a key has at most {MOST_DOTS} dots", "docs/exams.md has every key")
    return text


def _entries(folder: Traversable, where: str) -> Iterator[_Entry]:
    """The answers in a folder by name."""
    place = folder.joinpath(where)
    if not place.is_dir():
        return
    seen: set[str] = set()
    for each in _visible(place):
        if each.name == f"{where}.toml":
            continue
        if each.is_dir():
            name, files = each.name, dict(_files(each, ""))
        else:
            own = _own_name(each.name)
            name, files = own.partition(".")[0], {own: _text(each)}
        if not files:
            raise SpecimenError(f"{each}: there is no file in it", "put the files of an answer there, or remove it")
        if name in seen:
            raise SpecimenError(f"{place}: two answers are called {name!r}", "rename one of them")
        seen.add(name)
        yield _Entry(name, files, is_reply=each.is_file() and each.name.endswith(_REPLY))


def _files(folder: Traversable, prefix: str) -> Iterator[tuple[str, str]]:
    for each in _visible(folder):
        if each.is_dir():
            yield from _files(each, f"{prefix}{each.name}/")
        else:
            yield prefix + _own_name(each.name), _text(each)


def _visible(folder: Traversable) -> list[Traversable]:
    """What lies in a folder by name, without hidden files and what Python leaves behind."""
    found = (each for each in folder.iterdir() if not each.name.startswith((".", "__pycache__")))
    return sorted(found, key=lambda each: each.name)


def _own_name(name: str) -> str:
    shorter = name.removesuffix(".txt")
    return shorter if "." in shorter.strip(".") else name


def _text(file: Traversable) -> str:
    try:
        return file.read_bytes().decode("utf-8")  # a reply is kept word for word, with the line ends that it has
    except UnicodeDecodeError as error:
        raise SpecimenError(f"{file}: byte {error.start} is not UTF-8", "an answer is text") from None
    except OSError as error:
        raise SpecimenError(f"{file}: cannot be read: {error.strerror or error}") from None


def _longest_run(text: str) -> int:
    """The longest run of backticks at the beginning of a line."""
    runs = (len(line) - len(line.lstrip("`")) for line in map(str.lstrip, text.splitlines()))
    return max(runs, default=0)
