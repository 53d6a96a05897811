"""Which cell of one side answers which of another: by name, quant, variant and exam, never by a guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from results.answer import place_name
from results.sides import name_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from results.sides import Side, SideCell

RULE = (
    "Cells are the same where model, quant, variant and exam are. Names of models may differ in case, spaces and "
    "punctuation; a published model goes by the report's name, and by its short name in `quantsweep models`."
)


class MappingError(ValueError):
    """`--map` names a model or a cell that is not there; `str()` says which, and what is there."""


@dataclass(frozen=True, slots=True)
class Alone:
    """A cell of one side that nothing of the other answers.

    Attributes:
        side: whose it is: the first (0) or the second (1).
    """

    side: int
    cell: str
    exam: str
    why: str


@dataclass(frozen=True, slots=True)
class Matching:
    """Cells that answer one another, and those that nothing answers: of the first side, then of the second."""

    both: tuple[tuple[SideCell, SideCell], ...]
    alone: tuple[Alone, ...]


def match(ours: Side, theirs: Side, given: Mapping[str, str]) -> Matching:
    """The cells of two sides that answer one another.

    Args:
        ours: the first side.
        theirs: the second.
        given: names of ours to names of theirs, each of a model or of a cell (`model quant`).

    Raises:
        MappingError: one of these names is not there.
    """
    _check(given, ours, theirs)
    both: list[tuple[SideCell, SideCell]] = []
    alone: list[Alone] = []
    taken: set[int] = set()
    for cell in ours.cells:
        found = [number for number, other in enumerate(theirs.cells) if _answers(cell, other, given)]
        if len(found) == 1 and found[0] not in taken:
            taken.add(found[0])
            both.append((cell, theirs.cells[found[0]]))
        else:
            why = _why_not(cell, theirs, given)
            if found:
                why = "several there answer it" if len(found) > 1 else "another cell of this side has what answers it"
            alone.append(Alone(0, cell.label, cell.exam, why))
    exams = {cell.exam for cell in ours.cells}
    for number, other in enumerate(theirs.cells):
        if number not in taken:
            why = "no cell of the other answers it" if other.exam in exams else _no_exam(other)
            alone.append(Alone(1, other.label, other.exam, why))
    return Matching(tuple(both), tuple(alone))


def _check(given: Mapping[str, str], ours: Side, theirs: Side) -> None:
    for name, side in [*((name, ours) for name in given), *((name, theirs) for name in given.values())]:
        known = {known for cell in side.cells for known in _called(cell)}
        if name_key(name) not in known:
            there = ", ".join(sorted({cell.label for cell in side.cells})) or "nothing"
            raise MappingError(f"{side.name} has no model or cell {name!r}; there is: {there}")


def _called(cell: SideCell) -> frozenset[str]:
    """What a name of `--map` may be to mean this cell."""
    place = place_name(cell.model, cell.variant)
    return cell.names | cell.printed | {name_key(cell.label), name_key(cell.model), name_key(place)}


def _answers(cell: SideCell, other: SideCell, given: Mapping[str, str]) -> bool:
    if cell.exam != other.exam:
        return False
    for name, theirs in given.items():
        if name_key(name) == name_key(cell.label) and name_key(cell.label) not in cell.names:
            return name_key(theirs) in _called(other)  # a cell that is named: whatever its quant and variant
    mapped = next((name_key(theirs) for name, theirs in given.items() if name_key(name) in _called(cell)), None)
    same_model = mapped in _called(other) if mapped is not None else bool(cell.names & other.names)
    return same_model and cell.variant == other.variant and _same_quant(cell, other)


def _same_quant(cell: SideCell, other: SideCell) -> bool:
    if cell.quant is None or other.quant is None:
        return cell.quant is None and other.quant is None
    return cell.quant.casefold() == other.quant.casefold()


def _why_not(cell: SideCell, theirs: Side, given: Mapping[str, str]) -> str:
    """Why a cell has none that answers it, with the `--map` that would name one."""
    there = [other for other in theirs.cells if other.exam == cell.exam]
    if not there:
        return _no_exam(cell)
    mapped = {name_key(name): name_key(to) for name, to in given.items()}
    names = {mapped.get(name, name) for name in _called(cell)}
    same = [other for other in there if names & _called(other)]
    if not same:
        models = ", ".join(dict.fromkeys(other.model for other in there))
        return f"no model of that name; there are: {models}"
    unsaid = [other for other in same if other.quant is None]
    if unsaid and len(unsaid) == len(same):
        return f'it does not say which quant it ran: --map "{cell.label}={unsaid[0].label}" takes it for this one'
    if not any(_same_quant(cell, other) for other in same):
        return f"not with this quant; there are: {', '.join(other.quant or '?' for other in same)}"
    return f'not with this variant: --map "{cell.label}={same[0].label}" takes that one'


def _no_exam(cell: SideCell) -> str:
    return f"the other has nothing on {cell.exam}"


@dataclass(frozen=True, slots=True)
class Difference:
    """A condition in which two sides differ.

    Attributes:
        ours, theirs: the values there were; none where that side does not say.
        cells: in how many of the cells that are compared.
    """

    name: str
    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    cells: int


_FIRST = ("hardware", "cpu", "backend", "driver", "engine", "engine build", "file", "sampling temperature", "context")
"""What is said first; the rest follows in the order in which it was met."""


def _place(name: str) -> int:
    return _FIRST.index(name) if name in _FIRST else len(_FIRST)


def differences(both: Sequence[tuple[SideCell, SideCell]]) -> tuple[Difference, ...]:
    """The conditions in which the two sides differ, or of which one says nothing, over all cells that are compared."""
    names = dict.fromkeys(name for pair in both for cell in pair for name in cell.conditions)
    found = []
    for name in names:
        pairs = [(ours.conditions.get(name, ()), theirs.conditions.get(name, ())) for ours, theirs in both]
        apart = sum(ours != theirs for ours, theirs in pairs)
        if apart:
            ours, theirs = (_values([pair[side] for pair in pairs]) for side in (0, 1))
            found.append(Difference(name, ours, theirs, apart))
    return tuple(sorted(found, key=lambda each: _place(each.name)))


def _values(each: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """All values of one side; `not said` among them where it says them of some cells only."""
    found = dict.fromkeys(value for values in each for value in values)
    return (*found, *(["not said"] if found and not all(each) else []))
