"""The exam go-v1: what it is run on, how it is judged, and a few replies graded for real."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from profiles.probe.needs import find_needs
from runners.exams import get_exam
from runners.exams.base import Grade, Reply
from runners.exams.check import check_exam
from runners.exams.go_v1.judging import judge_factorial, judge_files, judge_words
from runners.exams.go_v1.texts import tree_for, words_for
from runners.outcomes import Outcome
from runners.sandbox import Sandbox, SandboxUnavailable, open_sandbox
from tests.runners.exams.graded import grade as grade_reply

if TYPE_CHECKING:
    from pathlib import Path

EXAM = get_exam("go-v1")
PROGRAMS = [f"program {number}".encode() for number in range(20)]


@pytest.fixture
def needs_go() -> None:
    if missing := [need for need in find_needs(EXAM.needs) if need.found is None]:
        pytest.skip(missing[0].sentence)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_text_has_the_words_it_says_and_no_tie_that_counts(program: bytes) -> None:
    for tied in (False, True):
        words = words_for(program, tied=tied)
        found = re.findall(r"[a-z]+", words.text.decode().lower())
        assert {word: found.count(word) for word in found} == dict(words.counts)
        counts = [count for _, count in words.counts]
        assert counts == sorted(counts, reverse=True)
        if not tied:
            assert len(set(counts[:11])) == 11
        else:
            assert counts[8:12] == [8, 8, 8, 8]
            assert [word for word, count in words.counts if count == 8] == sorted(
                (word for word, count in words.counts if count == 8), reverse=True
            )
    assert words_for(program, tied=False) == words_for(program, tied=False)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_folders_sizes_differ_and_no_path_ends_like_another(program: bytes) -> None:
    for published, number in ((True, 4), (False, 9)):
        sizes = tree_for(program, published=published).sizes
        assert len(sizes) == len(set(sizes.values())) == number
        assert not [(a, b) for a in sizes for b in sizes if a != b and a.endswith("/" + b)]
        assert all(len(tree_for(program, published=published).content(path)) == size for path, size in sizes.items())


def test_no_two_programs_get_the_same_text() -> None:
    assert len({words_for(program, tied=False).text for program in PROGRAMS}) == len(PROGRAMS)
    assert len({str(tree_for(program, published=False)) for program in PROGRAMS}) == len(PROGRAMS)


WORDS = [(f"w{chr(97 + n)}", 50 - 4 * n) for n in range(10)]


@pytest.mark.parametrize(
    ("output", "corrected", "published"),
    [
        ("".join(f"{word}: {count}\n" for word, count in WORDS), 3, 3),
        ("".join(f"  {word} : {count}\n\n" for word, count in WORDS), 3, 3),
        ("".join(f"{word.upper()}: {count}\n" for word, count in WORDS), 2, 3),
        ("Top\n" + "".join(f"{word}: {count}\n" for word, count in WORDS), 0, 0),
        ("".join(f"{word}: {count}\n" for word, count in [*WORDS, ("x", 1)]), 2, 3),
        ("".join(f"{word}: {count}\n" for word, count in [*WORDS[:8], WORDS[9], WORDS[8]]), 2, 3),
        ("".join(f"{word}: {count}\n" for word, count in WORDS[:5]), 2, 2),
        ("".join(f"{word}: {count}\n" for word, count in [WORDS[0], WORDS[3], *WORDS[4:]]), 1, 1),
        ("".join(f"{count} {word}\n" for word, count in WORDS), 0, 0),
        ("Top ten:\n" + "".join(f"{word}: {count}\n" for word, count in WORDS), 0, 0),
        ("", 0, 0),
    ],
)
def test_words_are_judged(output: str, corrected: int, published: int) -> None:
    assert [judge_words(output, WORDS, scoring)[0] for scoring in EXAM.scorings] == [corrected, published]


SIZES = {"big.txt": 1000, "a/middle.txt": 300, "a/b/small.txt": 90, "tiny.txt": 5}


@pytest.mark.parametrize(
    ("output", "corrected", "published"),
    [
        ("1000 /box/tree/big.txt\n300 /box/tree/a/middle.txt\n90 tree/a/b/small.txt\n5 tiny.txt\n", 3, 3),
        ("1000\tbig.txt\n300\ta/middle.txt\n90\ta/b/small.txt\n5\ttiny.txt", 3, 3),
        ("1000 big.txt\n300 a/middle.txt\n90 a/b/small.txt\n", 2, 2),
        ("1000 big.txt\n1000 big.txt\n300 a/middle.txt\n90 a/b/small.txt\n5 tiny.txt\n", 2, 3),
        ("5 tiny.txt\n90 a/b/small.txt\n300 a/middle.txt\n1000 big.txt\n", 1, 1),
        ("1000 middle.txt\n300 big.txt\n90 x.txt\n5 y.txt\n", 0, 3),
        ("big.txt 1000\n", 0, 1),
        ("", 0, 0),
    ],
)
def test_files_are_judged(output: str, corrected: int, published: int) -> None:
    assert [judge_files(output, SIZES, scoring)[0] for scoring in EXAM.scorings] == [corrected, published]


def test_the_number_is_judged() -> None:
    assert judge_factorial(" 3628800\n\n") == (3, "")
    assert judge_factorial("3,628,800") == (0, "printed '3,628,800' instead of 3628800")


def graded(text: str, tmp_path: Path, finish_reason: str = "stop") -> Grade:
    return grade_reply(EXAM, Reply(text, finish_reason=finish_reason), open_sandbox(), tmp_path)


@pytest.mark.long
@pytest.mark.usefixtures("needs_go")
def test_the_reference_has_full_marks_and_a_cut_off_one_what_it_has(tmp_path: Path) -> None:
    reference = next(each for each in EXAM.specimens() if each.kind == "reference").text
    (tmp_path / "whole").mkdir()
    grade = graded(reference, tmp_path / "whole")
    assert (grade.scores, grade.outcome) == ({"corrected": 15.0, "published": 15.0}, Outcome.PASSED)
    assert len({item.name for item in grade.items}) == len(grade.items) == 18
    assert sum(item.points_max for item in grade.items) == 30
    (tmp_path / "cut").mkdir()
    cut = graded(reference[: reference.index("words := make(")], tmp_path / "cut", "length")
    assert (cut.scores["corrected"], cut.outcome) == (10.0, Outcome.MAX_TOKENS)
    notes = {item.name: item.note for item in cut.items}
    assert notes["corrected: wordfreq builds"]
    assert notes["corrected: wordfreq is correct"] == "it was not built"


def test_a_reply_without_a_program_needs_no_toolchain(tmp_path: Path) -> None:
    grade = graded("I cannot do that.", tmp_path)
    assert (grade.scores, grade.outcome) == ({"corrected": 0.0, "published": 0.0}, Outcome.NO_CODE)
    assert graded("<think>hm", tmp_path, "length").outcome is Outcome.MAX_TOKENS


@pytest.mark.proof
@pytest.mark.usefixtures("needs_go")
@pytest.mark.parametrize("kind", ["bubblewrap", "namespaces"])
def test_the_grader_is_right(kind: str) -> None:
    try:
        sandbox: Sandbox = open_sandbox(kind)
    except SandboxUnavailable as error:
        pytest.skip(f"no {kind} here: {error.message}")
    report = check_exam("go-v1", sandbox)
    assert report.ok, "\n".join(report.lines())
