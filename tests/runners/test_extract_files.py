"""Several files in one reply: markers, fences with names, titles, and what is no file."""

from __future__ import annotations

import time

import pytest

from runners.extract import extract_files

ONE, TWO = "package main\n\nvar one = 1\n", "package main\n\nvar two = 2\n"
NAMES = ("one.go", "two.go")


def found(reply: str) -> dict[str, tuple[str | None, str]]:
    files = extract_files(reply, language="go", filenames=NAMES, marker="package main")
    return {name: (each.code, each.method) for name, each in files.items()}


@pytest.mark.parametrize(
    ("reply", "method"),
    [
        (f"#START one.go#\n{ONE}#END one.go#\n#START two.go#\n{TWO}#END two.go#\n", "start_marker"),
        (f"```\n#START one.go#\n{ONE}#END one.go#\n\n#START two.go#\n{TWO}#END two.go#\n```\n", "start_marker"),
        (f"#START one.go#\n```go\n{ONE}```\n#END one.go#\n#START two.go#\n```go\n{TWO}```\n", "start_marker"),
        (f"```go one.go\n{ONE}```\n\n```go:cmd/two.go\n{TWO}```\n", "named_fence"),
        (f"### 1. `one.go`\n\n```go\n{ONE}```\n**two.go**:\n```\n{TWO}```\n", "titled_fence"),
        (f"First:\n```go\n{ONE}```\nthen\n```go\n{TWO}```\n", "language_fence"),
    ],
)
def test_files_are_found_however_they_are_handed_over(reply: str, method: str) -> None:
    assert found(reply) == {"one.go": (ONE, method), "two.go": (TWO, method)}


def test_a_first_comment_names_the_file() -> None:
    assert found(f"```go\n// two.go\n{TWO}```\n")["two.go"] == (f"// two.go\n{TWO}", "titled_fence")


def test_the_last_of_the_best_kind_counts_and_reasoning_does_not() -> None:
    reply = (
        "<think>#START one.go#\npackage main // thought\n#END#</think>\n#START one.go#\npackage main // draft\n#END#"
    )
    assert found(f"{reply}\n#START one.go#\n{ONE}#END one.go#\n") == {
        "one.go": (ONE, "start_marker"),
        "two.go": (None, "no_candidate"),
    }


def test_what_has_no_end_is_said_and_two_fences_for_three_files_are_none() -> None:
    cut = extract_files(f"#START one.go#\n{ONE}", language="go", filenames=NAMES)
    assert cut["one.go"].truncated
    assert cut["two.go"].code is None
    fences = f"```go\n{ONE}```\n```go\n{TWO}```\n"
    three = extract_files(fences, language="go", filenames=("a.go", "b.go", "c.go"))
    assert {each.method for each in three.values()} == {"no_candidate"}
    assert {each.method for each in extract_files("", language="go", filenames=NAMES).values()} == {"empty"}
    unclosed = extract_files("<think>hm", language="go", filenames=NAMES)["one.go"]
    assert (unclosed.method, unclosed.truncated) == ("unclosed_think", True)


@pytest.mark.parametrize(
    "piece", ["```go\n```\n", "#START one.go#\n", "one.go\n```go one.go\nx\n```\n", "\n", " ", "`"]
)
def test_time_grows_with_the_length_of_a_reply(piece: str) -> None:
    began = time.process_time()
    extract_files(piece * (400_000 // len(piece)), language="go", filenames=NAMES)
    assert time.process_time() - began < 20
