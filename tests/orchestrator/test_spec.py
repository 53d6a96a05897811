"""The spec: what is accepted, and what a person is told about the rest, with the line."""

from __future__ import annotations

import contextlib
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import SpecError
from orchestrator.spec import SweepSpec, parse_spec
from orchestrator.sweep import SWEEPS, built_in_sweeps
from profiles.toml_lines import LineIndex

GOOD = """\
name = "demo"
seeds = [1, 2]
exams = ["todo"]

[sampling]
temperature = 0.8

[[models]]
name = "a"
source = "a.gguf"

[[models]]
name = "b"
source = "b.gguf"
quants = ["Q4_K_M"]
[[models.variants]]
name = "nothink"
reasoning = "off"
"""


def complaint(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "demo.toml")
    return str(caught.value)


def test_a_good_spec_is_read() -> None:
    spec = parse_spec(GOOD, "demo.toml")
    assert [model.name for model in spec.models] == ["a", "b"]
    assert spec.models[1].variants[0].reasoning == "off"
    assert spec.models[0].quants == "all"


@pytest.mark.parametrize("name", built_in_sweeps())
def test_what_ships_is_valid(name: str) -> None:
    assert parse_spec((SWEEPS / f"{name}.toml").read_text(), name).name == name


def test_ranges_of_seeds() -> None:
    assert parse_spec(GOOD.replace("[1, 2]", '"3-6"'), "f").seeds == [3, 4, 5, 6]
    assert parse_spec(GOOD.replace("[1, 2]", '[1, "7-8"]'), "f").seeds == [1, 7, 8]
    assert "demo.toml:2: seeds: the range '9-3' is empty" in complaint(GOOD.replace("[1, 2]", '"9-3"'))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("seeds = [1, 2]", "seeds = [1, 2"), "demo.toml:3: this is not valid TOML"),
        (("seeds =", "seedz ="), "demo.toml:2: seedz: unknown key; did you mean 'seeds'?"),
        (("temperature", "temperatur"), "demo.toml:6: sampling.temperatur: unknown key; did you mean 'temperature'?"),
        (
            ('source = "b.gguf"', 'sauce = "b.gguf"'),
            "demo.toml:14: models[1].sauce: unknown key; did you mean 'source'?",
        ),
        (('source = "b.gguf"\n', ""), "demo.toml:12: models[1].source: is missing"),
        (("[1, 2]", "[]"), "demo.toml:2: seeds: is empty"),
        (("[1, 2]", "[1, 1]"), "demo.toml:2: the same seed stands here twice: 1; every seed must be unique"),
        (("[1, 2]", '["1-60", "7-40"]'), "twice: 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,"),
        (("[1, 2]", "6"), 'demo.toml:2: seeds: must be a range such as "1-6", or a list such as [1, 2, 3] (here: 6)'),
        (("[1, 2]", "true"), 'demo.toml:2: seeds: must be a range such as "1-5", or a list such as [1, 2, 3]'),
        (("[1, 2]", '"6"'), "demo.toml:2: seeds: '6' is no range of seeds, such as \"1-5\""),
        (("[1, 2]", "[1.5]"), "demo.toml:2: seeds[0]: must be a whole number (here: 1.5)"),
        (("[1, 2]", "[-1]"), "demo.toml:2: seeds[0]"),
        (('["todo"]', "[]"), "demo.toml:3: exams: is empty"),
        (('["todo"]', '"todo"'), 'demo.toml:3: exams: must be a list, such as ["todo"] (here'),
        (('["todo"]', '["todo", "todo"]'), "demo.toml:3: the same exam stands here twice: todo"),
        (('["todo"]', "3"), "demo.toml:3: exams: must be a list, such as [1, 2, 3] (here: 3)"),
        (
            ("[[models.variants]]", "[models.variants]"),
            "models[1].variants: must be tables, each under [[models.variants]]",
        ),
        (('["Q4_K_M"]', '["Q4_K_M", "Q4_K_M"]'), "demo.toml:15: the same quant in model 'b' stands here twice: Q4_K_M"),
        (
            ("[[models.variants]]\n", '[[models.variants]]\nname = "nothink"\n[[models.variants]]\n'),
            "demo.toml:19: the same v",
        ),
        (('name = "b"', 'name = "a"'), "demo.toml:13: the same model name stands here twice: a"),
        (('name = "demo"', 'name = "../up"'), "demo.toml:1: name: '../up' must be 1 to 64 letters"),
        (("0.8", '"hot"'), "demo.toml:6: sampling.temperature: must be a number (here: 'hot')"),
        (("0.8", "-1.0"), "demo.toml:6: sampling.temperature"),
        (('"off"', '"of"'), "models[1].variants[0].reasoning"),
        (('["Q4_K_M"]', "[]"), "demo.toml:15: models[1].quants: is empty"),
        (('["Q4_K_M"]', '"fittest"'), "demo.toml:15: models[1].quants"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(change: tuple[str, str], expected: str) -> None:
    assert expected in complaint(GOOD.replace(*change))


def test_what_is_missing_has_the_line_where_it_could_stand() -> None:
    text = complaint(GOOD[: GOOD.index("[[models]]")].replace("seeds = [1, 2]\n", ""))
    assert 'demo.toml:1: seeds: is missing: seeds = "1-5", above all tables' in text
    assert "demo.toml:6: models: is missing: a [[models]] table with a name and a source, for each model" in text
    assert "demo.toml:1: models: is missing" in complaint("")


def test_every_problem_is_listed_at_once() -> None:
    text = complaint('seedz = [1]\nexams = []\n[[models]]\nname = "a"\n')
    for part in ("name: is missing", "seedz: unknown key", "exams: is empty", "models[0].source: is missing"):
        assert part in text


def test_a_bad_union_is_one_problem_not_two() -> None:
    assert complaint(GOOD.replace('["Q4_K_M"]', "3")).count("demo.toml:") == 1


def test_lines_of_nested_tables() -> None:
    index = LineIndex(GOOD)
    assert index.line(("models", 1, "variants", 0, "reasoning")) == 18
    assert index.line(("models", 0, "source")) == 10
    assert index.line(("models", 0, "nothing")) == 8
    assert index.line(("nowhere",)) is None


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_spec_or_a_spec_error(text: str) -> None:
    with contextlib.suppress(SpecError):
        assert isinstance(parse_spec(text, "f"), SweepSpec)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["name", "seeds", "exams", "models", "sampling", "engine", "limits", "other"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["name", "source", "quants", "kind", "x"]), inner, max_size=3)
            ),
            max_leaves=8,
        ),
    )
)
def test_any_values_are_judged_without_a_traceback(data: dict[str, object]) -> None:
    from unittest.mock import patch

    with patch.object(tomllib, "loads", return_value=data), contextlib.suppress(SpecError):
        assert isinstance(parse_spec("", "f"), SweepSpec)


def test_a_key_may_be_anything_and_is_named() -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec('"\\u001b[31m[/]" = 1\nname = "a"\n[engine]\n"x\\ny" = 2\n', "demo.toml")
    text = str(caught.value)
    assert "\x1b[31m[/]: unknown key; known here: name, " in text
    assert "engine.x\ny: unknown key; " in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = " + "[" * 20_000 + "]" * 20_000, "nested too deeply"),
        ("[sampling]\nmax_tokens = " + "9" * 5000, "4300 digits"),
        (".".join(["a"] * 20_000) + " = 1", "at most 100 dots"),
        ("# " + "x" * 2_000_000, "1,000,000 characters"),
    ],
)
def test_a_spec_that_nobody_wrote_by_hand_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        parse_spec(text, "demo.toml")


def test_dots_in_texts_and_comments_are_no_keys() -> None:
    dots = "." * 200
    text = SPEC_OF_MANY.format(seeds="[1]", exams='"todo"')
    assert parse_spec(f"# {dots}\n{text}\n# '{dots}", "x.toml") == parse_spec(text, "x.toml")
    with pytest.raises(SpecError, match="x: unknown key") as caught:
        parse_spec(f'x = """\n{dots}\n"""\n{text}', "x.toml")
    assert "dots" not in str(caught.value)


def test_long_lists_cost_what_they_are_long() -> None:
    """Each seed was counted anew for each seed: 100,000 of them, the most there may be, took three minutes."""
    seeds = parse_spec(SPEC_OF_MANY.format(seeds='"0-99999"', exams='"todo"'), "x.toml").seeds
    assert len(seeds) == 100_000
    many = ", ".join(f'"e{number}"' for number in range(20_000))
    assert len(parse_spec(SPEC_OF_MANY.format(seeds="[1]", exams=many), "x.toml").exams) == 20_000
    with pytest.raises(SpecError, match=r"the same exam stands here twice: e0, e1, e2, .*, \.\.\."):
        parse_spec(SPEC_OF_MANY.format(seeds="[1]", exams=f"{many}, {many}"), "x.toml")


def test_of_thousands_of_problems_the_first_are_told_and_the_rest_are_counted() -> None:
    wrong = "".join(f"k{number} = 1\n" for number in range(20_000))
    with pytest.raises(SpecError) as caught:
        parse_spec(wrong + SPEC_OF_MANY.format(seeds="[1]", exams='"todo"'), "x.toml")
    lines = str(caught.value).splitlines()
    assert len(lines) < 110
    assert lines[-1].strip() == "x.toml: and 19,900 more"


SPEC_OF_MANY = """
name = "x"
seeds = {seeds}
exams = [{exams}]
[[models]]
name = "m"
source = "builtin:stand-in"
"""
