from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.catalogue import Card, card_of_device, find_card, load_catalogue, search_cards
from profiles.errors import UnknownCardError

GIB = 1 << 30
MIB = 1 << 20
CHECKED = {"wikipedia", "techpowerup", "datasheet", "press", "none"}


def test_at_least_a_hundred_cards_and_every_family() -> None:
    cards = load_catalogue()
    assert len({card.name for card in cards}) >= 100
    families = [
        "RTX 2060", "RTX 3090", "RTX 4070 Ti SUPER", "RTX 5090 Laptop", "RTX PRO 6000", "RTX A6000", "H200", "GB10",
        "RX 6800", "RX 7900 XTX", "RX 9070 XT", "Radeon 890M", "8060S", "Arc A770", "Arc B580", "Apple M1", "Apple M5",
    ]  # fmt: skip
    for family in families:
        assert any(family in card.name for card in cards), family


def test_three_figures_of_every_card_agree() -> None:
    # Bandwidth is what the bus carries: bits x transfers per second / 8. A slip in one of the three shows here.
    def peak(card: Card) -> float:
        return card.bus_bits / 8 * card.rate_gbps * 1e9

    wrong = {
        card.id: peak(card) for card in load_catalogue() if abs(peak(card) / card.bandwidth_bytes_per_s - 1) > 0.01
    }
    assert wrong == {}


def test_every_card_has_a_memory_that_can_be_and_says_where_it_was_read() -> None:
    for card in load_catalogue():
        assert card.bus_bits % 32 == 0, card.id
        assert card.memory_bytes is None or 4 * GIB <= card.memory_bytes <= 512 * GIB, card.id
        assert card.source, card.id
        assert card.checked in CHECKED, card.id


def test_ids_are_unique_and_find_their_card() -> None:
    cards = load_catalogue()
    assert [key for key, count in Counter(card.id for card in cards).items() if count > 1] == []
    for card in cards:
        assert find_card(card.id) == card


@pytest.mark.parametrize(
    ("name", "card_id"),
    [
        ("rtx-5090", "rtx-5090"),
        ("RTX5090", "rtx-5090"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("4090", "rtx-4090"),
        ("rtx4060ti-16gb", "rtx-4060-ti-16gb"),
        ("4060 ti 8 GB", "rtx-4060-ti-8gb"),
        ("rx7900xtx", "rx-7900-xtx"),
        ("5090 laptop", "rtx-5090-laptop"),
        ("dgx spark", "gb10"),
        ("m4 max 128", "m4-max-128gb"),
        ("strix halo 128gb", "8060s-128gb"),
        ("a770 16", "arc-a770-16gb"),
    ],
)
def test_people_write_names_in_many_ways(name: str, card_id: str) -> None:
    assert find_card(name).id == card_id


def test_a_name_for_several_products_asks_which() -> None:
    with pytest.raises(UnknownCardError, match=r"could be: rtx-4060-ti-8gb, rtx-4060-ti-16gb; say which"):
        find_card("rtx 4060 ti")


@pytest.mark.parametrize(("name", "near"), [("rtx-5095", "rtx-5090"), ("RX 7900 XTZ", "rx-7900-xt")])
def test_a_wrong_name_is_answered_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UnknownCardError) as caught:
        find_card(name)
    assert near in str(caught.value)
    assert "--vram" in str(caught.value)


@given(name=st.text(max_size=30))
def test_any_text_is_a_card_or_a_clear_error(name: str) -> None:
    try:
        card = find_card(name)
    except UnknownCardError as error:
        message = str(error)
    else:
        message = card.id
        assert card in load_catalogue()
    assert message


@pytest.mark.parametrize(
    ("name", "memory", "card_id"),
    [
        ("NVIDIA GeForce RTX 5060 Ti", 16311 * MIB, "rtx-5060-ti-16gb"),
        ("NVIDIA GeForce RTX 4060 Ti", 8188 * MIB, "rtx-4060-ti-8gb"),
        ("NVIDIA GeForce RTX 3080", 10240 * MIB, "rtx-3080-10gb"),
        ("NVIDIA H200", 143771 * MIB, "h200"),
        ("NVIDIA A100-SXM4-80GB", 81920 * MIB, "a100-sxm4"),
        ("NVIDIA A100-PCIE-40GB", 40536 * MIB, "a100"),
        ("Tesla V100-SXM2-32GB", 32768 * MIB, "tesla-v100-32gb"),
        ("AMD Radeon RX 7900 XTX", 24560 * MIB, "rx-7900-xtx"),
        ("Apple M3 Max", 96 * GIB, "m3-max-96gb"),
    ],
)
def test_a_driver_s_name_and_memory_find_the_product(name: str, memory: int, card_id: str) -> None:
    card = card_of_device(name, memory)
    assert card is not None
    assert card.id == card_id


def test_a_device_is_never_given_its_neighbour_s_figures() -> None:
    assert card_of_device("NVIDIA GeForce RTX 9999", 16 * GIB) is None
    assert card_of_device("NVIDIA GeForce RTX 3060", 48 * GIB) is None
    assert card_of_device("NVIDIA GeForce RTX 3060", None) is None


def test_searching_by_any_word() -> None:
    assert {card.vendor for card in search_cards("arc")} == {"intel"}
    assert all("Laptop" in card.name for card in search_cards("laptop 40"))
    assert search_cards("no such thing") == ()
    assert search_cards() == load_catalogue()
