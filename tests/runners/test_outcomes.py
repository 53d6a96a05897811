"""Every outcome has a class and a sentence."""

from __future__ import annotations

from runners.outcomes import Outcome, OutcomeClass, outcome_class


def test_each_outcome_belongs_to_somebody_and_is_explained() -> None:
    for outcome in Outcome:
        assert outcome_class(outcome) in OutcomeClass
        assert outcome.sentence
        assert not outcome.sentence.endswith(".")


def test_classes() -> None:
    assert outcome_class(Outcome.PASSED) is OutcomeClass.MODEL
    assert outcome_class(Outcome.NO_CODE) is OutcomeClass.MODEL
    assert outcome_class(Outcome.MAX_TOKENS) is OutcomeClass.BUDGET
    assert outcome_class(Outcome.NODE_LOST) is OutcomeClass.INFRASTRUCTURE
