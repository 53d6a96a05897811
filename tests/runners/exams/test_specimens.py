"""Specimens out of an exam's folder: replies, source, mutants of a reference, bounds, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runners.exams.base import Specimen
from runners.exams.folder.specimens import SpecimenError, fenced, read_specimens
from runners.extract import extract_code

if TYPE_CHECKING:
    from pathlib import Path


def write(root: Path, **texts: str) -> Path:
    """A folder with these files; `__` in a name stands for `/`, `_` before the suffix for `.`."""
    for name, text in texts.items():
        file = root / name.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return root


def test_every_form_of_entry_becomes_what_a_model_would_have_said(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        reference__correct_dot_py_dot_txt="print('one')\n",
        reference__other_dot_md="I would say: nothing.\n",
        mutants__whole_dot_py="print('three')\n",
        mutants_dot_toml="[whole]\nloses = ['says one']\n"
        "[part]\nfind = 'one'\nreplace = 'two'\nmore = [['print', 'p']]\n"
        "[of-reply]\nof = 'other'\nfind = 'nothing'\nreplace = 'all'\nloses = 'says one'\n",
        cheats__claims_dot_py="print('100')\n",
        cheats__free_dot_py="pass\n",
        cheats__cheats_dot_toml="[free]\nmost = 2\n",
        published__known_dot_py="known\n",
        published__published_dot_toml="[known]\nexactly = { strict = 1.5 }\n",
    )
    found = read_specimens(folder, fenced("python"), scorings=("strict", "published"), task="t")
    assert found == [
        Specimen("correct", "reference", "```python\nprint('one')\n```\n", task="t"),
        Specimen("other", "reference", "I would say: nothing.\n", task="t"),
        Specimen("known", "published", "```python\nknown\n```\n", bounds={"strict": 1.5}, task="t"),
        Specimen("part", "mutant", "```python\np('two')\n```\n", task="t"),
        Specimen("of-reply", "mutant", "I would say: all.\n", loses=("says one",), task="t"),
        Specimen("whole", "mutant", "```python\nprint('three')\n```\n", loses=("says one",), task="t"),
        Specimen(
            "claims", "cheat", "```python\nprint('100')\n```\n", bounds={"strict": 0.0, "published": 0.0}, task="t"
        ),
        Specimen("free", "cheat", "```python\npass\n```\n", bounds={"strict": 2.0, "published": 2.0}, task="t"),
    ]


def test_a_folder_of_files_is_one_answer_and_a_mutant_changes_the_file_that_has_the_passage(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        reference__both__main_dot_go="package main\n",
        reference__both__store__disk_dot_go="package store // kept\n",
        mutants_dot_toml="[lost]\nfind = '// kept'\nreplace = '// lost'\n",
    )
    seen: list[dict[str, str]] = []

    def wrap(files: object) -> str:
        seen.append(dict(files))  # type: ignore[call-overload]  # a mapping, as the protocol says
        return "reply"

    assert [(each.name, each.text) for each in read_specimens(folder, wrap)] == [("both", "reply"), ("lost", "reply")]
    assert seen == [
        {"main.go": "package main\n", "store/disk.go": "package store // kept\n"},
        {"main.go": "package main\n", "store/disk.go": "package store // lost\n"},
    ]


def test_a_fence_is_longer_than_any_in_the_program() -> None:
    program = 'text = """\n```\nnot the end\n````\n"""\n'
    found = extract_code(fenced("python")({"a.py": program}), language="python")
    assert (found.code, found.truncated) == (program, False)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"mutants_dot_toml": "[a]\nfind = 'x'\nreplace = 'y'\n"}, "there is no reference"),
        ({"reference__r": "xx", "mutants_dot_toml": "[a]\nfind = 'x'\nreplace = 'y'\n"}, "2 times instead of once"),
        ({"reference__r": "xx", "mutants_dot_toml": "[a]\nfind = 'z'\nreplace = 'y'\n"}, "0 times instead of once"),
        ({"reference__r": "x", "mutants_dot_toml": "[a]\nfind = 'x'\n"}, "needs texts in find and replace"),
        ({"reference__r": "x", "mutants_dot_toml": "[a]\nfind = 'x'\nreplace = 'y'\nof = 'b'\n"}, "called 'b'"),
        ({"mutants_dot_toml": "[a]\nlose = ['x']\n"}, "unknown key 'lose'"),
        ({"mutants_dot_toml": "[a]\nloses = ['x']\n"}, "no such entry in mutants/"),
        ({"mutants_dot_toml": "[a\n"}, "not valid TOML"),
        ({"mutants_dot_toml": "a = 1\n"}, "'a' is no table"),
        ({"cheats__c": "x", "cheats__cheats_dot_toml": "[c]\nmost = 'all'\n"}, "is 'all'"),
        ({"cheats__c": "x", "cheats__cheats_dot_toml": "[c]\nmost = { no = 1 }\n"}, "names the scoring 'no'"),
        ({"published__p": "x"}, "does not say what 'p' scores"),
        ({"reference__r_dot_py": "x", "reference__r_dot_js": "x"}, "two answers are called 'r'"),
    ],
)
def test_what_proves_nothing_is_refused_by_name(tmp_path: Path, texts: dict[str, str], message: str) -> None:
    with pytest.raises(SpecimenError, match=message) as caught:
        read_specimens(write(tmp_path, **texts), fenced("python"))
    assert caught.value.hint or "TOML" in message


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference" / "r.py").write_bytes(b"ok\xff")
    with pytest.raises(SpecimenError, match=r"r\.py: byte 2 is not UTF-8"):
        read_specimens(tmp_path, fenced("python"))


@pytest.mark.parametrize("points", ["nan", "inf", "-1", "-inf", "5.1", "1e400", "{ strict = nan }"])
@pytest.mark.parametrize(("place", "key"), [("reference", "exactly"), ("published", "exactly"), ("cheats", "most")])
def test_a_bound_is_a_number_of_points(tmp_path: Path, place: str, key: str, points: str) -> None:
    folder = write(tmp_path, **{f"{place}__one_dot_py": "1\n", f"{place}_dot_toml": f"[one]\n{key} = {points}\n"})
    with pytest.raises(SpecimenError, match="give points from 0 to full marks, 5"):
        read_specimens(folder, fenced("python"), scorings=("strict", "published"), score_max=5)
    (folder / f"{place}.toml").write_text(f"[one]\n{key} = 5\n")
    (found,) = read_specimens(folder, fenced("python"), scorings=("strict", "published"), score_max=5)
    assert found.bounds == {"strict": 5.0, "published": 5.0}


def test_no_scoring_of_a_cheat_is_left_open(tmp_path: Path) -> None:
    folder = write(tmp_path, cheats__one_dot_py="1\n", cheats_dot_toml="[one]\nmost = { strict = 2 }\n")
    (found,) = read_specimens(folder, fenced("python"), scorings=("strict", "published"))
    assert found.bounds == {"strict": 2.0, "published": 0.0}
    write(folder, published__two_dot_py="1\n", published_dot_toml="[two]\nexactly = {}\n")
    with pytest.raises(SpecimenError, match="exactly of 'two' names no scoring"):
        read_specimens(folder, fenced("python"))


def test_a_table_that_would_be_read_for_ever_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, cheats_dot_toml="a" + ".a" * 400_000 + " = 1\n")
    with pytest.raises(SpecimenError, match=r"cheats\.toml:1: a key has at most 20 dots"):
        read_specimens(folder, fenced("python"))
    write(folder, cheats_dot_toml="#" * 1_000_001)
    with pytest.raises(SpecimenError, match="more than 1,000,000 characters"):
        read_specimens(folder, fenced("python"))
