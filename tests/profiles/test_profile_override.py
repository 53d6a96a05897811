from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.errors import OverrideError, ProfilesError
from profiles.override import Override, _quantity, apply_override, default_path, load_override
from profiles.probe import probe_node
from profiles.types import Device

GIB = 1 << 30
CPU = Device("cpu", "cpu", "AMD EPYC", "cpu", memory_total_bytes=32 * GIB, memory_free_bytes=30 * GIB)
BIG = Device(
    "nvidia-0",
    "nvidia",
    "NVIDIA GeForce RTX 5090",
    "discrete",
    memory_total_bytes=32 * GIB,
    memory_free_bytes=31 * GIB,
    uuid="GPU-1",
    pci_id="0000:01:00.0",
)
ARC = Device("intel-0", "intel", "Intel Arc A770", "discrete")


def given_file(tmp_path: Path, text: str) -> Override:
    path = tmp_path / "machine.toml"
    path.write_text(text)
    return load_override(path)


def test_what_the_owner_says_is_applied(tmp_path: Path) -> None:
    override = given_file(
        tmp_path,
        """
        models_dir = "~/models"
        [device.cpu]
        leave_free = "4 GiB"
        [device."RTX 5090"]
        leave_free = "1.5 GiB"
        [device.intel-0]
        memory = "16 GiB"
        bandwidth = "560 GB/s"
        leave_alone = "the children's computer"
        """,
    )
    assert override.models_dir == str(Path.home() / "models")
    (cpu, big, arc), notices = apply_override(override, (CPU, BIG, ARC))
    assert notices == ()
    assert (cpu.memory_free_bytes, cpu.reserved_bytes) == (26 * GIB, 4 * GIB)
    assert (big.memory_free_bytes, big.memory_total_bytes) == (31 * GIB - 3 * GIB // 2, 32 * GIB)
    assert (arc.memory_total_bytes, arc.memory_free_bytes) == (16 * GIB, 16 * GIB)
    assert (arc.bandwidth_bytes_per_s, arc.bandwidth_source) == (560e9, "override file")
    assert arc.excluded == "the children's computer"
    assert not arc.usable


@pytest.mark.parametrize("key", ["nvidia-0", "GPU-1", "0000:01:00.0", "NVIDIA GeForce RTX 5090", "rtx 5090"])
def test_a_device_goes_by_many_names(tmp_path: Path, key: str) -> None:
    override = given_file(tmp_path, f'[device."{key}"]\nleave_alone = true')
    (cpu, big), _ = apply_override(override, (CPU, BIG))
    assert cpu.excluded is None
    assert big.excluded == "the override file says so"


def test_more_left_free_than_there_is_leaves_nothing(tmp_path: Path) -> None:
    override = given_file(tmp_path, '[device.cpu]\nleave_free = "1 TiB"')
    assert apply_override(override, (CPU,))[0][0].memory_free_bytes == 0


def test_an_entry_about_no_device_is_named(tmp_path: Path) -> None:
    override = given_file(tmp_path, '[device.nvidia-7]\nleave_free = "1 GiB"')
    _, (notice,) = apply_override(override, (CPU, BIG))
    assert notice.code == "override-unused"
    assert "nvidia-0 (NVIDIA GeForce RTX 5090)" in notice.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("device = ", "is no valid TOML"),
        ("llama_sever = 'x'", "unknown key 'llama_sever'; did you mean 'llama_server'?"),
        ("zzz = 1", "there are: llama_server, models_dir, pass_on, device"),
        ("device = 3", "tables, such as [device.nvidia-0]"),
        ("[device.cpu]\nleave_fre = '1 GiB'", "did you mean 'leave_free'?"),
        ("[device.cpu]\nleave_free = 4", "a quantity with its unit, such as '1.5 GiB', not 4"),
        ("[device.cpu]\nleave_free = '4'", "such as '1.5 GiB'"),
        ("[device.cpu]\nbandwidth = 'fast'", "such as '560 GB/s'"),
        ("[device.cpu]\nleave_alone = 1", "true or the reason"),
        ("models_dir = 7", "models_dir has to be text"),
        ("llama_server = '/nowhere/llama-server'", "is no program that can be run"),
    ],
)
def test_a_wrong_file_says_what_and_where(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(OverrideError) as caught:
        given_file(tmp_path, text)
    assert words in str(caught.value)
    assert str(tmp_path / "machine.toml") in str(caught.value)
    assert isinstance(caught.value, ProfilesError)


def test_no_file_is_fine_but_a_named_one_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUANTSWEEP_MACHINE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_path() == tmp_path / "quantsweep" / "machine.toml"
    assert load_override() == Override()
    monkeypatch.setenv("QUANTSWEEP_MACHINE", str(tmp_path / "missing.toml"))
    with pytest.raises(OverrideError, match="QUANTSWEEP_MACHINE"):
        load_override()


def test_a_probe_reads_the_file_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "machine.toml"
    path.write_text(f'models_dir = "{tmp_path}"\n[device.cpu]\nleave_alone = "reserved"')
    monkeypatch.setenv("QUANTSWEEP_MACHINE", str(path))
    profile = probe_node(engines=False)
    assert profile.models_dir == str(tmp_path)
    assert profile.cpu is not None
    assert profile.cpu.excluded == "reserved"


def test_binary_rubbish_is_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "machine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OverrideError, match="cannot be read"):
        load_override(path)


@given(
    number=st.integers(0, 10**6), unit=st.sampled_from(["B", "kB", "KB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB"])
)
def test_quantities_mean_what_their_unit_says(number: int, unit: str) -> None:
    power = {"B": 0, "K": 1, "M": 2, "G": 3, "T": 4}[unit[0].upper()]
    base = 1024 if "i" in unit else 1000
    assert _quantity({"memory": f"{number} {unit}"}, "memory", Path("x"), "") == number * base**power


def test_what_would_keep_its_reader_for_ever_is_named(tmp_path: Path) -> None:
    pipe = tmp_path / "machine.toml"
    os.mkfifo(pipe)
    assert load_override(Path(os.devnull)).models_dir is None
    for path in (pipe, tmp_path, Path("/dev/zero")):
        with pytest.raises(OverrideError, match="it is not a file"):
            load_override(path)
    large = tmp_path / "large.toml"
    large.write_text("#" * 1_000_001)
    with pytest.raises(OverrideError, match="is larger than 1,000,000 bytes"):
        load_override(large)
