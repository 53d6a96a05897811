"""Todo lists in the forms that programs print them: entries, ids, changes."""

from __future__ import annotations

import pytest

from runners.exams.todo.listing import find_entries, is_same, pick_ids, settled

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
