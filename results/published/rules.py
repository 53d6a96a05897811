"""What is wrong with published figures, found by rule: impossible rates, means that no scores give, wrong counts."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from profiles.bus import ceiling_tps, is_impossible
from results.figures import rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from results.published.printed import Figure
    from results.published.source import Line, Source

_MAXIMA: Final = (
    *(("score", "score_max"), ("score_low", "score_max"), ("score_high", "score_max")),
    *(("features", "features_max"), ("functional", "functional_max"), ("compiles", "compiles_of")),
)
_WORD = re.compile(r"[a-z0-9.]+")
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Flag:
    """Something that is wrong with figures of a line.

    Attributes:
        name: what kind of mistake.
        by: who found it: a rule of this module, or a person.
        columns: those that it concerns.
        reason: a sentence.
        source: where a person has it from; empty for a rule.
    """

    name: str
    by: Literal["rule", "person"]
    columns: tuple[str, ...]
    reason: str
    source: str = ""


def above_bus(line: Line) -> Flag | None:
    """A decode rate above what the memory bus allows: each token reads every weight that takes part in it, once.

    ceiling = bandwidth / (bytes of the file x active parameters / all parameters). See profiles/bus.py; without the
    KV cache, of which reports say nothing, so that the ceiling is never too low.
    """
    tps, size, bandwidth = line.figure("decode_tps"), line.figure("file_bytes"), line.figure("bandwidth_gb_s")
    if tps is None or size is None or bandwidth is None:
        return None
    whole, active = line.figure("parameters"), line.figure("parameters_active")
    if whole is not None and active is not None:
        share = active.value / whole.value
    elif line.text("architecture") == "dense":
        share = 1.0
    else:
        return None
    token_gb = size.value / 1e9 * share
    ceiling = ceiling_tps(bandwidth.value, token_gb)
    if not is_impossible(tps.value - tps.half, ceiling):
        return None
    reason = (
        f"{rate(tps.value)} tok/s would read {tps.value * token_gb:,.0f} GB a second ({token_gb:.3g} GB a token); "
        f"the bus has {bandwidth.value:,.0f}, which allows {rate(ceiling)}"
    )
    tokens, whole_time = line.figure("output_tokens"), line.figure("e2e_s")
    if tokens is not None and whole_time is not None:
        reason += f". Over the whole time it is {rate(tokens.value / whole_time.value)}"
    dense = line.text("architecture") == "dense"
    return Flag("above_bus", "rule", ("architecture", "decode_tps") if dense else ("decode_tps",), reason)


def above_maximum(line: Line) -> Flag | None:
    """A figure above the most that there is, or below nothing."""
    for column, most in _MAXIMA:
        value, bound = line.figure(column), line.figure(most)
        if value is not None and bound is not None and not 0 <= value.value <= bound.value:
            return Flag("above_maximum", "rule", (column,), f"{column} is {value.value:g} of {bound.value:g}")
    return None


def outside_range(line: Line) -> Flag | None:
    """A mean that does not lie between the lowest and the highest score."""
    mean, low, high = line.figure("score"), line.figure("score_low"), line.figure("score_high")
    if mean is None or low is None or high is None:
        return None
    if low.value - mean.half <= mean.value <= high.value + mean.half and low.value <= high.value:
        return None
    return Flag("outside_range", "rule", ("score",), f"a mean of {mean.value:g} for {low.value:g} to {high.value:g}")


def unreachable_mean(line: Line) -> Flag | None:
    """A mean that no whole scores of so many seeds have, given their range, or how many of them compiled.

    The test of Brown and Heathers (2017, "The GRIM test"), with the range: of n scores one is the lowest, one the
    highest, and the others lie between. A seed that did not compile has no point, where the report says so.
    """
    mean, step, seeds = line.figure("score"), line.figure("score_step"), line.values.get("seeds")
    if mean is None or step is None or not seeds or "score" not in line.printed:
        return None
    number = len(seeds)
    low, high, most = line.figure("score_low"), line.figure("score_high"), line.figure("score_max")
    compiled, least = line.figure("compiles"), line.values.get("compiled_from")
    if low is not None and high is not None and number >= 2:
        least_sum = low.value * (number - 1) + high.value
        most_sum = low.value + high.value * (number - 1)
    elif compiled is not None and least is not None and most is not None:
        least_sum, most_sum = compiled.value * least, compiled.value * most.value
    else:
        return None
    # The nearest sums around the printed mean; whole steps only.
    first = math.ceil(((mean.value - mean.half) * number - 1e-9) / step.value) * step.value
    if first <= (mean.value + mean.half) * number + 1e-9 and first <= most_sum + 1e-9:
        last = math.floor(((mean.value + mean.half) * number + 1e-9) / step.value) * step.value
        if last >= least_sum - 1e-9:
            return None
    reason = f"no {number} scores in steps of {step.value:g} with a sum of {least_sum:g} to {most_sum:g} have this mean"
    return Flag("unreachable_mean", "rule", ("score",), reason)


def rate_against_time(line: Line) -> Flag | None:
    """A rate that tokens over time contradict: it is below tokens / whole time, or above tokens / time after TTFT."""
    tps, tokens, whole = line.figure("decode_tps"), line.figure("output_tokens"), line.figure("e2e_s")
    ttft = line.figure("ttft_s")
    if tps is None or tokens is None or whole is None or ttft is None:
        return None
    shortest = whole.value - whole.half - ttft.value - ttft.half
    most = (tokens.value + tokens.half) / shortest if shortest > 0 else math.inf
    least = (tokens.value - tokens.half) / (whole.value + whole.half)
    if least - tps.half <= tps.value <= most + tps.half:
        return None
    reason = f"{tokens.value:,.0f} tokens in this time are {rate(least)} to {rate(most)} tok/s, not {rate(tps.value)}"
    return Flag("rate_against_time", "rule", ("decode_tps",), reason)


def at_token_cap(line: Line) -> Flag | None:
    """A reply of exactly as many tokens as were allowed: it was cut off, and its score is the limit's doing."""
    tokens, most = line.figure("output_tokens"), line.figure("max_tokens")
    if tokens is None or most is None or "output_tokens" not in line.printed or tokens.value < most.value:
        return None
    return Flag("at_token_cap", "rule", ("output_tokens",), f"cut off at the limit of {most.value:,.0f} tokens")


def name_against_id(line: Line) -> Flag | None:
    """A name with a version or a size that what was asked for does not have: "4.6" for claude-sonnet-4-20250514.

    A number with a unit (3.5B) has to be in the id with its unit, one without as a part of any.
    """
    asked = line.text("id")
    if asked is None:
        return None
    there = _numbered(asked)
    plain = {word.strip(_LETTERS) for word in there}
    for word in _numbered(line.label):
        digits = word.strip(_LETTERS)
        if word not in there and (word != digits or digits not in plain):
            return Flag("name_against_id", "rule", ("model",), f"called {line.label}, and asked for as {asked}")
    return None


def _numbered(text: str) -> list[str]:
    """The words of a name that have a digit."""
    return [word for word in _WORD.findall(text.casefold()) if any(char.isdigit() for char in word)]


OF_LINES: Final = (
    *(above_bus, above_maximum, outside_range, unreachable_mean, rate_against_time),
    *(at_token_cap, name_against_id),
)
"""The rules that look at one line."""


def disagreements(lines: Sequence[Line]) -> Iterator[tuple[Line, Flag]]:
    """Figures that the report prints more than once, for the same model, quant and exam, and differently."""
    held: dict[tuple[Any, ...], tuple[Line, Figure]] = {}
    for line in lines:
        for column in sorted(line.printed):
            value = line.figure(column)
            if value is None:
                continue
            key = (*(line.values.get(name) for name in ("model", "quant", "variant", "exam", "origin")), column)
            other, figure = held.setdefault(key, (line, value))
            if not figure.agrees(value):
                said = f"{figure.value:,.6g} in table {other.table}, {value.value:,.6g} in table {line.table}"
                yield line, Flag("disagrees", "rule", (column,), f"{column}: {said}")
            elif value.half < figure.half:
                held[key] = line, value  # the others are held against the most exact one


def judge_claim(source: Source, claim: Mapping[str, Any]) -> Flag | None:
    """What is wrong with something that the report's text says of its figures; None where it is right.

    `count`: so many of something, against what is listed. `most`: a model has the most of a column. `share`: a part is
    more than a share of a column's figure. `ratio`: figures of a column are so many times one of them.
    """
    return _JUDGES[claim["kind"]](source, claim)


def _count(source: Source, claim: Mapping[str, Any]) -> Flag | None:
    listed = claim.get("listed")
    if listed is None:
        lines = [line for table in claim["tables"] for line in source.of_table(table)]
        listed = len({line.label for line in lines if claim.get("where") in {None, line.text("kind")}})
    if listed == claim["says"]:
        return None
    return Flag("wrong_count", "rule", (), f"{claim['says']} {claim['of']}; there are {listed}")


def _most(source: Source, claim: Mapping[str, Any]) -> Flag | None:
    there = _column(source.of_table(claim["table"]), claim["column"])
    first = max(there, key=lambda label: there[label])
    if first == claim["label"]:
        return None
    said = f"{there[first]:,.0f} for {first}, {there[claim['label']]:,.0f} for {claim['label']}"
    return Flag("not_the_most", "rule", (), f"{claim['label']} is said to have the most {claim['of']}: {said}")


def _share(source: Source, claim: Mapping[str, Any]) -> Flag | None:
    whole = _column(source.of_table(claim["table"]), claim["column"])[claim["label"]]
    share = claim["part"] / whole
    if share > claim["over"]:
        return None
    said = f"{claim['part']} of {whole:,.0f} are {share:.0%}"
    return Flag("wrong_share", "rule", (), f"over {claim['over']:.0%} of the {claim['of']}: {said}")


def _ratio(source: Source, claim: Mapping[str, Any]) -> Flag | None:
    there = _column(source.of_table(claim["table"]), claim["column"])
    ratios = [there[label] / there[claim["label"]] for label in claim["labels"]]
    low, high = claim["says"]
    if low * 0.95 <= min(ratios) and max(ratios) <= high * 1.05:  # such words are round
        return None
    return Flag("wrong_ratio", "rule", (), f"{low} to {high} {claim['of']}: {min(ratios):.0f} to {max(ratios):.0f}")


def _column(lines: Iterable[Line], column: str) -> dict[str, float]:
    return {line.label: figure.value for line in lines if (figure := line.figure(column)) is not None}


_JUDGES: Final = {"count": _count, "most": _most, "share": _share, "ratio": _ratio}


def of_person(source: Source, line: Line) -> Iterator[Flag]:
    """The flags that a person set on a line: by table, exam and model, where these are named."""
    for flag in source.flags:
        labels = flag.get("labels", [flag["label"]] if "label" in flag else None)
        if (
            flag.get("table") in {None, line.table}
            and flag.get("exam") in {None, line.text("exam")}
            and (labels is None or line.label in labels)
            and (columns := tuple(name for name in flag["columns"] if name in line.values))
        ):
            yield Flag(flag["name"], "person", columns, flag["reason"], flag["source"])
