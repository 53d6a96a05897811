"""The one rule of what the memory bus allows."""

from __future__ import annotations

from profiles.bus import ceiling_tps, is_impossible, utilisation


def test_a_rate_is_impossible_from_1_05_of_the_ceiling_on() -> None:
    ceiling = ceiling_tps(1000e9, 10e9)
    assert ceiling == 100
    assert not is_impossible(105, ceiling)
    assert is_impossible(105.1, ceiling)


def test_utilisation_is_a_share_of_the_ceiling_where_both_are_known() -> None:
    assert utilisation(50.0, 100.0) == 0.5
    assert utilisation(None, 100.0) is None
    assert utilisation(50.0, None) is None
    assert utilisation(50.0, 0.0) is None
