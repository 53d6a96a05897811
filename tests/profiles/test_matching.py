"""Which name of an engine is which card: a table of machines, and what keeps a wrong one from being taken."""

from __future__ import annotations

import pytest

from profiles.backends import backend_of_name
from profiles.matching import hidden_on_cpu, match_devices, strangers, vendor_of
from profiles.types import Device, EngineDevice
from tests.profiles.machines import MACHINES, Machine, amd, nvidia


def test_the_table_has_machines_of_every_make() -> None:
    assert len(MACHINES) >= 25
    assert {device.vendor for machine in MACHINES for device in machine.devices} >= {"nvidia", "amd", "intel", "apple"}


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.title)
def test_each_card_gets_its_own_name_or_none(machine: Machine) -> None:
    matches = match_devices(machine.devices, machine.listed())
    assert [match.device_id for match in matches] == [device.id for device in machine.devices]
    for match in matches:
        name, reason = machine.expected[match.device_id]
        assert match.name == name, match
        assert reason in match.how
        assert match.sure == (match.device_id not in machine.unsure)
        assert match.backend == (None if name is None else backend_of_name(name))


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.title)
def test_no_two_cards_get_one_device(machine: Machine) -> None:
    matches = [match for match in match_devices(machine.devices, machine.listed()) if match.name is not None]
    assert len({(match.name, match.visible) for match in matches}) == len(matches)


def test_a_card_is_served_alone_where_its_uuid_is_known() -> None:
    listed = (EngineDevice("CUDA0", "NVIDIA GeForce RTX 5090"), EngineDevice("Vulkan0", "AMD Radeon RX 6800 XT"))
    both = match_devices((nvidia(0, "GeForce RTX 5090", None), amd(0, "AMD Radeon RX 6800 XT", None)), listed)
    assert both[0].visible == ("CUDA_VISIBLE_DEVICES=GPU-0",)
    assert both[1].visible == ("CUDA_VISIBLE_DEVICES=-1",)
    assert hidden_on_cpu(listed) == ("CUDA_VISIBLE_DEVICES=-1",)
    assert hidden_on_cpu(listed[1:]) == ()


def test_a_name_from_a_list_of_several_is_kept_where_nothing_proves_that_the_variable_has_an_effect() -> None:
    """A wrapper that sets the variable itself would serve the first card under every name."""
    cards = (nvidia(0, "GeForce RTX 5090", None), nvidia(1, "GeForce RTX 3060", None))
    listed = tuple(EngineDevice(f"CUDA{n}", card.name) for n, card in enumerate(cards))
    assert [(match.name, match.visible) for match in match_devices(cards, listed)] == [("CUDA0", ()), ("CUDA1", ())]


def test_a_pci_address_that_differs_outweighs_an_equal_name() -> None:
    card = nvidia(0, "GeForce RTX 3090", 24)
    listed = (EngineDevice("Vulkan0", card.name, 24 << 30, 23 << 30, pci_id="0000:99:00.0"),)
    (match,) = match_devices((card,), listed)
    assert match.name is None


def test_a_gpu_that_only_an_engine_knows_is_told_once() -> None:
    listed = (
        EngineDevice("Vulkan0", "AMD Radeon RX 7900 XTX (RADV NAVI31)", 24 << 30, 23 << 30),
        EngineDevice("ROCm0", "AMD Radeon RX 7900 XTX", 24 << 30, 23 << 30),
        EngineDevice("Vulkan1", "llvmpipe (LLVM 19.1.7, 256 bits)", 8 << 30, 8 << 30),
        EngineDevice("BLAS", "OpenBLAS"),
        EngineDevice("CUDA0", "NVIDIA GeForce RTX 5090", 32 << 30, 31 << 30),
    )
    cpu = Device("cpu", "cpu", "A CPU", "cpu")
    assert [each.name for each in strangers((cpu, nvidia(0, "GeForce RTX 5090", 32)), listed)] == ["ROCm0"]


@pytest.mark.parametrize(
    ("name", "backend"),
    [("CUDA0", "cuda"), ("ROCm12", "rocm"), ("MTL0", "metal"), ("Metal", "metal"), ("BLAS", None), ("RPC0", None)],
)
def test_backends_by_name(name: str, backend: str | None) -> None:
    assert backend_of_name(name) == backend


def test_vendors_by_description() -> None:
    said = ("Intel(R) Arc(TM) A770 Graphics", "Radeon 8060S Graphics", "Tesla T4", "Apple M1", "Mali-G610")
    assert [vendor_of(each) for each in said] == ["intel", "amd", "nvidia", "apple", None]
