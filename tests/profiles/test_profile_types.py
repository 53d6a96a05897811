from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiles.samples import Samples
from profiles.types import (
    Device,
    DeviceProcess,
    EngineDevice,
    FoundEngine,
    FoundTool,
    HardwareClass,
    NodeProfile,
    Notice,
    hardware_class,
)

words = st.text(max_size=20)
sizes = st.none() | st.integers(min_value=0, max_value=2**50)
speeds = st.none() | st.floats(min_value=0, max_value=1e13)
devices = st.builds(
    Device,
    id=words,
    vendor=st.sampled_from(["nvidia", "amd", "cpu"]),
    name=words,
    kind=st.sampled_from(["discrete", "unified", "cpu"]),
    memory_total_bytes=sizes,
    memory_free_bytes=sizes,
    bandwidth_bytes_per_s=speeds,
    processes=st.lists(st.builds(DeviceProcess, pid=st.integers(0, 2**22), memory_bytes=sizes), max_size=3).map(tuple),
    excluded=st.none() | words,
)
engines = st.builds(
    FoundEngine, kind=words, build=st.none() | words, devices=st.lists(st.builds(EngineDevice, words, words)).map(tuple)
)
profiles = st.builds(
    NodeProfile,
    hostname=words,
    os=words,
    arch=words,
    probed_at=words,
    cores_usable=speeds,
    ram_total_bytes=sizes,
    devices=st.lists(devices, max_size=3).map(tuple),
    engines=st.lists(engines, max_size=2).map(tuple),
    tools=st.lists(st.builds(FoundTool, words, words), max_size=2).map(tuple),
    warnings=st.lists(st.builds(Notice, words, words), max_size=2).map(tuple),
)

GPU = Device(
    id="nvidia-0",
    vendor="nvidia",
    name="NVIDIA GeForce RTX 5090",
    kind="discrete",
    memory_total_bytes=34190917632,
    memory_free_bytes=33654046720,
    power_limit_w=575.0,
)
CPU = Device("cpu", "cpu", "AMD EPYC", "cpu", memory_total_bytes=24 << 30, memory_free_bytes=20 << 30)
NODE = NodeProfile("box", "Linux", "x86_64", "now", cpu_model="AMD EPYC", cores_usable=8.0, devices=(CPU, GPU))


@settings(max_examples=60, deadline=None)
@given(profile=profiles)
def test_a_profile_survives_json(profile: NodeProfile) -> None:
    assert NodeProfile.from_dict(json.loads(json.dumps(profile.to_dict()))) == profile


def test_samples_survive_json() -> None:
    samples = Samples(1.5, 60, peak_ram_bytes=7, throttle_reasons=("thermal",), sources={"peak_ram_bytes": "RSS"})
    assert Samples.from_dict(json.loads(json.dumps(samples.to_dict()))) == samples


def test_an_older_reader_ignores_what_it_does_not_know() -> None:
    data = GPU.to_dict() | {"invented_later": 1}
    assert Device.from_dict(data) == GPU


def test_a_profile_without_its_name_is_refused() -> None:
    with pytest.raises(TypeError, match="hostname"):
        NodeProfile.from_dict({"os": "Linux", "arch": "x86_64", "probed_at": "now"})


def test_devices_are_found_by_id_and_a_wrong_one_is_named() -> None:
    assert NODE.device("nvidia-0") is GPU
    assert NODE.cpu is CPU
    assert NODE.gpus == (GPU,)
    with pytest.raises(KeyError, match=r"box has no device 'nvidia-1'; it has: cpu, nvidia-0"):
        NODE.device("nvidia-1")


@pytest.mark.parametrize(
    "change",
    [{"memory_total_bytes": None}, {"memory_free_bytes": None}, {"excluded": "the desktop"}],
)
def test_nothing_is_placed_on_a_guess_or_where_the_owner_objects(change: dict[str, object]) -> None:
    assert GPU.usable
    assert not replace(GPU, **change).usable  # type: ignore[arg-type]  # a table of changes


def test_equal_hardware_is_one_class_and_its_id_can_be_a_label() -> None:
    first = hardware_class(NODE, [GPU])
    assert re.fullmatch(r"[a-z0-9.-]{1,63}", first.id)
    assert first.id.startswith("nvidia-geforce-rtx-5090-32g-")
    # Free memory, the host's name and a few MiB that a driver keeps are no difference.
    other = replace(GPU, id="nvidia-3", memory_free_bytes=0, memory_total_bytes=34190917632 - (20 << 20), uuid="GPU-x")
    assert hardware_class(replace(NODE, hostname="other"), [other]) == first
    assert HardwareClass.from_dict(json.loads(json.dumps(first.to_dict()))) == first


@pytest.mark.parametrize(
    ("node", "device"),
    [
        (NODE, replace(GPU, power_limit_w=400.0)),
        (NODE, replace(GPU, memory_total_bytes=24 << 30)),
        (replace(NODE, governor="powersave"), GPU),
        (replace(NODE, platform_profile="low-power"), GPU),
        (replace(NODE, cpu_model="Intel N100"), GPU),
    ],
)
def test_what_changes_timings_changes_the_class(node: NodeProfile, device: Device) -> None:
    assert hardware_class(node, [device]).id != hardware_class(NODE, [GPU]).id


def test_cores_count_where_they_compute_and_not_beside_a_card() -> None:
    fewer = replace(NODE, cores_usable=4.0)
    assert hardware_class(fewer, [GPU]) == hardware_class(NODE, [GPU])
    assert hardware_class(fewer, [CPU]) != hardware_class(NODE, [CPU])
