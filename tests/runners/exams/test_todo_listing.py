"""Todo lists in the forms that programs print them: entries, ids, changes."""

from __future__ import annotations

import pytest

from runners.exams.todo.listing import find_entries, is_same, is_turned_round, looks_like, pick_ids, settled
from runners.exams.todo.reading import judge_lists

ONE, OTHER = "Buy apples", "Wash fence"

LISTS = {
    "table": (
        "ID   Done  Title               Created\n" + "-" * 50 + "\n"
        "{a}    {x}   Buy apples          2026-11-20 10:00:00\n"
        "{b}    {y}   Wash fence          2026-11-20 10:00:05\n" + "-" * 50 + "\nTotal: 2 todos\n"
    ),
    "newest first": (
        "📋 Todos (2):\n{y} [{b}] Wash fence\n    Created: 2026-11-20 10:00\n"
        "{x} [{a}] Buy apples\n    Created: 2026-11-20 10:00\n"
    ),
    "labelled": "{a}: Buy apples - {x} (created 20/11/2026)\n{b}: Wash fence - {y} (created 20/11/2026)\n",
    "hash": "\n{x} #{a}   [TODO] buy apples\n   📅 Nov 20, 2026\n{y} #{b}   [TODO] wash fence\n   📅 Nov 20, 2026\n",
    "form": (
        "ID: {a}\nTitle: Buy apples\nStatus: {x}\nCreated: 2026-11-20T10:00:00.123456\n" + "=" * 20 + "\n"
        "ID: {b}\nTitle: Wash fence\nStatus: {y}\nCreated: 2026-11-20T10:00:01.123456\n" + "=" * 20 + "\n"
    ),
    "form without separators": ("ID: {a}\nTitle: Buy apples\nStatus: {x}\nID: {b}\nTitle: Wash fence\nStatus: {y}\n"),
    "id below": "Buy apples\n  ID: {a}\n  {x}\nWash fence\n  ID: {b}\n  {y}\n",
    "box": (
        "┏━━━━┳━━━━━━━━━━━━┳━━━┓\n┃ ID ┃ Title      ┃   ┃\n┡━━━━╇━━━━━━━━━━━━╇━━━┩\n"
        "│ {a}  │ Buy apples │ {x} │\n│ {b}  │ Wash fence │ {y} │\n└────┴────────────┴───┘\n"
    ),
    "tuples": "({a}, 'Buy apples', '2026-11-20 10:00:00', '{x}')\n({b}, 'Wash fence', '2026-11-20 10:00:00', '{y}')\n",
    "colours": "\x1b[32m{a}\x1b[0m. \x1b[1mBuy apples\x1b[0m {x}\n\x1b[32m{b}\x1b[0m. \x1b[1mWash fence\x1b[0m {y}\n",
    "status number first": "0 {a} Buy apples {x}\n0 {b} Wash fence {y}\n",
    "age": "{a}) Buy apples {x} (3 seconds ago)\n{b}) Wash fence {y} (2 seconds ago)\n",
}


def printed(form: str, a: str = "1", b: str = "2", x: str = "o", y: str = "o") -> str:
    return LISTS[form].format(a=a, b=b, x=x, y=y)


@pytest.mark.parametrize("form", LISTS)
@pytest.mark.parametrize(("a", "b"), [("1", "2"), ("7", "8"), ("41", "3")])
def test_ids_are_read_back(form: str, a: str, b: str) -> None:
    entries = find_entries(printed(form, a, b), (ONE, OTHER))
    assert pick_ids(entries[ONE], entries[OTHER]) == (a, b)


@pytest.mark.parametrize("form", ["labelled", "table", "newest first", "form"])
def test_ids_need_not_be_numbers(form: str) -> None:
    ids = (
        ("3f2a9c1e", "b7d40e55")
        if form != "form"
        else (
            "0b8e7a52-5d0e-4c7e-9a55-3c1e2f6d7a10",
            "6a1d3c44-91aa-4a2b-8d0c-2f7e9b5c4d33",
        )
    )
    entries = find_entries(printed(form, *ids), (ONE, OTHER))
    assert pick_ids(entries[ONE], entries[OTHER]) == ids


@pytest.mark.parametrize("form", LISTS)
def test_a_mark_changes_its_own_entry_only(form: str) -> None:
    before = find_entries(printed(form), (ONE, OTHER))
    after = find_entries(printed(form, x="x"), (ONE, OTHER))
    assert is_same(before[OTHER], after[OTHER])
    assert settled(printed(form)) != settled(printed(form, x="x"))


@pytest.mark.parametrize("form", sorted(set(LISTS) - {"form without separators"}))
def test_a_mark_on_the_other_is_seen(form: str) -> None:
    before = find_entries(printed(form), (ONE, OTHER))
    after = find_entries(printed(form, y="x"), (ONE, OTHER))
    assert not is_same(before[OTHER], after[OTHER])


def test_time_alone_changes_nothing() -> None:
    one = "1. Buy apples (2 seconds ago) 2026-11-20 10:00:00\n"
    other = "1. Buy  apples (5 seconds ago) 2026-11-21 11:11:11\n"
    assert settled(one) == settled(other)


def test_places_in_the_list_may_change() -> None:
    before = find_entries("1. Buy apples\n2. Wash fence\n", (ONE, OTHER))
    after = find_entries("1. Wash fence\n2. Buy apples (done)\n", (ONE, OTHER))
    assert is_same(before[OTHER], after[OTHER])


def test_completed_ones_may_move_to_a_section() -> None:
    before = find_entries("Pending:\n  1. Buy apples\n  2. Wash fence\n", (ONE, OTHER))
    after = find_entries("Pending:\n  2. Wash fence\n\nCompleted:\n  1. Buy apples\n", (ONE, OTHER))
    assert is_same(before[OTHER], after[OTHER])


def test_a_title_within_a_word_is_not_the_title() -> None:
    assert find_entries("1. Buy applesauce\n", (ONE,)) == {}
    assert find_entries("", (ONE, OTHER)) == {}


def test_without_ids_none_are_picked() -> None:
    entries = find_entries("[ ] Buy apples\n[ ] Wash fence\n", (ONE, OTHER))
    assert pick_ids(entries[ONE], entries[OTHER]) is None
    entries = find_entries("2026-11-20 Buy apples\n2026-11-21 Wash fence\n", (ONE, OTHER))
    assert pick_ids(entries[ONE], entries[OTHER]) is None


@pytest.mark.parametrize(("done", "to_do"), [("✓", "○"), ("[x]", "[ ]"), ("Done", "Pending"), ("completed", "to do")])
def test_a_mark_that_is_turned_round_is_seen(done: str, to_do: str) -> None:
    before = find_entries(printed("labelled", x=done, y=done), (ONE,))
    after = find_entries(printed("labelled", x=to_do, y=done), (ONE,))
    assert is_turned_round(before[ONE], after[ONE])
    assert not is_turned_round(after[ONE], before[ONE])


@pytest.mark.parametrize(("earlier", "later"), [("Done: no", "Done: yes"), ("not done", "done"), ("0", "1"), ("", "✔")])
def test_a_mark_that_says_little_is_not_turned_round(earlier: str, later: str) -> None:
    before, after = (find_entries(printed("labelled", x=mark), (ONE,)) for mark in (earlier, later))
    assert not is_turned_round(before[ONE], after[ONE])


@pytest.mark.parametrize("form", LISTS)
def test_entries_are_told_apart_by_their_marks(form: str) -> None:
    alike = find_entries(printed(form, x="o", y="o"), (ONE, OTHER))
    apart = find_entries(printed(form, x="X", y="o"), (ONE, OTHER))
    assert looks_like(alike[ONE], ONE, alike[OTHER], OTHER)
    if form not in {"form", "form without separators"}:  # there the mark is not part of the title's own lines
        assert not looks_like(apart[ONE], ONE, apart[OTHER], OTHER)


OPEN = "1 [ ] Buy apples\n2 [ ] Wash fence\n"
ASKED = "1 [x] Buy apples\n2 [ ] Wash fence\n"


@pytest.mark.parametrize("asked", [ASKED, "Completed:\n1 [x] Buy apples\n"])
def test_a_list_that_shows_open_todos_alone_is_asked_for_the_others(asked: str) -> None:
    outputs = [OPEN, "2 [ ] Wash fence\n", "nothing to do\n"]
    assert not any(judge_lists((ONE, OTHER), outputs, [asked, asked.replace("2 [ ] Wash fence\n", "")]))


@pytest.mark.parametrize(
    ("step", "outputs", "asked"),
    [
        ("complete", ["2 [ ] Wash fence\n", ""], [OPEN, "1 [ ] Buy apples\n"]),
        ("complete", ["2 [ ] Wash fence\n", ""], ["", ""]),
        ("delete", ["2 [ ] Wash fence\n", "2 [ ] Wash fence\n"], [ASKED, ASKED]),
        ("list 3", ["2 [ ] Wash fence\n", ""], [ASKED, ""]),
        ("list 3", ["2 [ ] Wash fence\n", ""], [ASKED, "1 [ ] Buy apples\n"]),
    ],
)
def test_what_it_shows_then_is_judged(step: str, outputs: list[str], asked: list[str]) -> None:
    notes = judge_lists((ONE, OTHER), [OPEN, *outputs], asked)
    assert notes[["add 1", "add 2", "list 1", "complete", "list 2", "delete", "list 3"].index(step)]
