"""Which quants fit which cards: rows, verdicts and columns, over folders, repositories and bad input."""

from __future__ import annotations

import json
import re
import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiles.catalogue import find_card
from profiles.types import Device, DeviceMatch, FoundEngine, NodeProfile
from quants.errors import QuantsError, SourceError
from quants.fit.amounts import GIB
from quants.fit.table import FitRow, FitsSettings, FitTable, Quant, fits
from quants.fit.targets import USABLE_SHARE, by_card, by_size, of_machine, unique
from quants.fit.verdict import VerdictKind, largest_context, report
from quants.footprint import Backend, Estimator, FootprintSettings
from quants.gguf import read_header
from tests.quants import ggufbytes as gb
from tests.quants.fitmodels import MATRIX_TYPES, model, publish, write_sparse

if TYPE_CHECKING:
    from pathlib import Path

    from quants.hub.client import HubSettings
    from tests.hubserver.server import LocalHub

# One of each kind of memory: plain attention, windows, shared and recurrent layers, experts, latent attention.
SHAPES = (
    "llama-3.1-8b",
    "qwen3-30b-a3b",
    "qwen3.5-35b-a3b",
    "gemma-4-26b-a4b",
    "gemma-3n-e4b",
    "gpt-oss-20b",
    "deepseek-v2-lite",
    "granite-4-h-1b",
    "rwkv7-2.9b",
    "mamba2-2.7b",
    "lfm2-1.2b",
)
CARDS = (by_size("16"), by_size("32"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of header-only files, one of each shape."""
    path = tmp_path_factory.mktemp("models")
    for shape in SHAPES:
        write_sparse(path / f"{shape}.gguf", model(shape, "Q4_K_M"))
    return path


@pytest.fixture(scope="module")
def table(folder: Path) -> FitTable:
    return fits([str(folder)], CARDS)


def row_of(table: FitTable, quant: str) -> FitRow:
    return next(row for row in table.rows if row.quant == quant)


def test_every_file_gets_a_row_with_the_estimate_and_a_verdict_for_each_card(folder: Path, table: FitTable) -> None:
    assert {row.quant for row in table.rows} == set(SHAPES)
    assert [row.file_bytes for row in table.rows] == sorted(row.file_bytes for row in table.rows)
    for row in table.rows:
        estimator = Estimator(read_header(folder / row.path))
        asked = FootprintSettings(context=row.context, backend=Backend.CUDA, gpus=1)
        footprint = estimator(asked)
        assert (row.method, row.reason) == ("estimate", "")
        assert row.architecture == footprint.architecture
        (gpu,) = footprint.gpus
        assert (row.target, row.total_bytes) == ("16 GB", gpu.safe_bytes)
        assert (row.host_bytes, row.margin_bytes) == (footprint.host.safe_bytes, gpu.uncertainty_bytes)
        for name in ("weights_bytes", "kv_bytes", "state_bytes", "compute_bytes", "output_bytes", "overhead_bytes"):
            assert getattr(row, name) == getattr(gpu, name)
        for card in CARDS:
            verdict = row.verdicts[card.name]
            expected = report(footprint, card.devices).verdict
            assert (verdict.verdict, verdict.headroom_bytes) == (expected.kind, expected.headroom_bytes)
            assert verdict.reason == expected.reason
            assert verdict.max_context == largest_context(estimator, asked, card.devices)
        contexts = [each.max_context or 0 for each in row.verdicts.values()]
        assert (row.max_context or 0) == max(contexts)


def test_the_components_add_up_and_mean_what_they_say(table: FitTable) -> None:
    for row in table.rows:
        parts = (row.weights_bytes, row.kv_bytes, row.state_bytes, row.compute_bytes, row.output_bytes)
        assert row.total_bytes == sum(part or 0 for part in (*parts, row.overhead_bytes, row.margin_bytes))
        assert (row.weights_bytes or 0) + (row.host_bytes or 0) > 0.8 * row.file_bytes
        for verdict in row.verdicts.values():
            # What the columns add up to is what the verdict holds against the memory.
            assert verdict.needed_bytes == row.total_bytes
            assert verdict.headroom_bytes == (verdict.memory_bytes or 0) - (verdict.needed_bytes or 0)
    assert row_of(table, "rwkv7-2.9b").kv_bytes == 0
    assert (row_of(table, "rwkv7-2.9b").state_bytes or 0) > 0
    assert row_of(table, "llama-3.1-8b").state_bytes == 0
    # 32 layers x 16,384 cells x (K + V) x 8 heads x 128 x 2 bytes
    assert row_of(table, "llama-3.1-8b").kv_bytes == 32 * 16384 * 2 * 8 * 128 * 2
    assert row_of(table, "qwen3-30b-a3b").verdicts["16 GB"].verdict is VerdictKind.TOO_BIG
    assert row_of(table, "qwen3-30b-a3b").verdicts["32 GB"].verdict is VerdictKind.FITS


def test_the_json_form_has_what_it_promises(table: FitTable) -> None:
    for row in json.loads(json.dumps([row.to_json() for row in table.rows])):
        promised = "source quant path file_bytes architecture context method weights_bytes kv_bytes state_bytes"
        promised += " compute_bytes output_bytes total_bytes max_context"
        assert set(promised.split()) <= row.keys()
        assert set(row["verdicts"]) == {"16 GB", "32 GB"}
        for verdict in row["verdicts"].values():
            assert verdict["verdict"] in {"fits", "too_big"}
            assert isinstance(verdict["headroom_bytes"], int)
            assert verdict["reason"]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """The quants of one model, one of them with a tensor of its own."""
    path = tmp_path_factory.mktemp("family")
    for label in ("Q2_K", "Q6_K", "IQ4_XS", "BF16"):
        file = model("qwen3.5-35b-a3b", label, note=label)
        if label == "Q6_K":
            file.tensors.append(gb.Tensor("blk.0.attn_extra.weight", (256, 16), 0, 256 * 16 * 4))
        write_sparse(path / f"M-{label}.gguf", file)
    return tuple(sorted(path.iterdir()))


@settings(max_examples=12, deadline=None)
@given(
    contexts=st.lists(st.integers(1, 300_000), min_size=1, max_size=2),
    backend=st.sampled_from([Backend.CUDA, Backend.VULKAN, Backend.CPU]),
    slots=st.integers(1, 4),
    cache=st.sampled_from(["f16", "q8_0", "q4_0"]),
    moved=st.integers(0, 40),
    kept=st.none() | st.integers(0, 41),
)
def test_quants_that_share_an_estimate_get_what_each_would_get_alone(
    family: tuple[Path, ...],
    contexts: list[int],
    backend: Backend,
    slots: int,
    cache: str,
    moved: int,
    kept: int | None,
) -> None:
    shared: dict[Any, Any] = {}
    gpus = 0 if backend is Backend.CPU else 1
    for path in family:
        header = read_header(path)
        quant, alone = Quant(header, shared), Estimator(header)
        for context in contexts:
            asked = FootprintSettings(
                context=context,
                slots=slots,
                cache_type_k=cache,
                cache_type_v=cache,
                backend=backend,
                gpus=gpus,
                gpu_layers=kept if gpus else None,
                cpu_moe_layers=moved if gpus else 0,
            )
            assert quant(asked) == alone(asked)
    assert len(shared) == 2  # all but one have the same tensors


def test_the_context_is_the_sweeps_unless_said_or_trained_on_less(tmp_path: Path) -> None:
    short = model("llama-3.2-1b", "Q8_0")
    short.keys = [(k, kind, 4096 if k == "llama.context_length" else value) for k, kind, value in short.keys]
    write_sparse(tmp_path / "short-Q8_0.gguf", short)
    source = str(tmp_path / "short-Q8_0.gguf")
    assert fits([source], CARDS).rows[0].context == 4096
    assert fits([source], CARDS).rows[0].max_context == 4096
    assert fits([source], CARDS, FitsSettings(context=32768)).rows[0].context == 32768


def test_slots_and_cache_types_count(folder: Path) -> None:
    source = [str(folder / "llama-3.1-8b.gguf")]
    plain = fits(source, CARDS).rows[0].kv_bytes or 0
    assert fits(source, CARDS, FitsSettings(slots=4)).rows[0].kv_bytes == 4 * plain
    quantized = fits(source, CARDS, FitsSettings(cache_type_k="q8_0", cache_type_v="q8_0")).rows[0].kv_bytes
    assert quantized == plain * 34 // 64  # 34 bytes for 32 values instead of 64


def test_offload_finds_a_placement_and_says_what_it_costs(folder: Path) -> None:
    source = [str(folder / "qwen3-30b-a3b.gguf")]
    whole = fits(source, CARDS).rows[0]
    row = fits(source, CARDS, FitsSettings(offload=True)).rows[0]
    moved = row.verdicts["16 GB"]
    assert moved.verdict is VerdictKind.FITS_OFFLOADED
    assert "--n-cpu-moe" in moved.flags
    assert moved.host_bytes is not None
    assert moved.host_bytes > 2 * GIB
    assert moved.headroom_bytes is not None
    assert moved.headroom_bytes >= 0
    assert moved.flags in moved.reason
    assert f"{moved.host_bytes / GIB:.1f} GiB of host memory" in moved.reason
    assert moved.headroom_bytes == (moved.memory_bytes or 0) - (moved.needed_bytes or 0)
    # The sizes stay those of the whole model on the card, and where nothing has to move nothing does.
    assert replace(row, verdicts=whole.verdicts) == whole
    assert row.verdicts["32 GB"] == whole.verdicts["32 GB"]


def test_of_several_cards_the_fullest_decides_and_is_named(folder: Path) -> None:
    (row,) = fits([str(folder / "qwen3-30b-a3b.gguf")], [by_size("2x16"), by_size("24+16")]).rows
    equal, unequal = row.verdicts["2 x 16 GB"], row.verdicts["24 GB + 16 GB"]
    assert equal.verdict is unequal.verdict is VerdictKind.FITS
    assert row.target == "2 x 16 GB"
    # The columns are both cards together, the headroom is that of the fullest.
    assert (equal.needed_bytes or 0) < (row.total_bytes or 0) < 2 * (equal.needed_bytes or 0)
    for verdict in (equal, unequal):
        assert re.search(r"of card [12] \(\d\d GB\), the fullest of 2, which has", verdict.reason)
        assert verdict.headroom_bytes == (verdict.memory_bytes or 0) - (verdict.needed_bytes or 0)


def test_on_a_cpu_all_of_it_is_its_own_memory(folder: Path) -> None:
    cpu = of_machine(machine(device("cpu", kind="cpu", vendor="cpu", total=64, free=40)))
    (row,) = fits([str(folder / "llama-3.1-8b.gguf")], cpu).rows
    assert (row.target, row.host_bytes, row.verdicts["cpu"].host_bytes) == ("cpu", None, None)
    assert row.verdicts["cpu"].needed_bytes == row.total_bytes
    assert row.verdicts["cpu"].memory_bytes == 40 * GIB


def test_an_architecture_without_rules_is_unknown_and_no_guess(tmp_path: Path) -> None:
    write_sparse(tmp_path / "new-Q4_K_M.gguf", model("llama-3.1-8b", "Q4_K_M", architecture="brandnew"))
    write_sparse(tmp_path / "old-Q8_0.gguf", model("llama-3.2-1b", "Q8_0"))
    table = fits([str(tmp_path)], CARDS, FitsSettings(offload=True))
    row = row_of(table, "Q4_K_M")
    assert (row.architecture, row.method) == ("brandnew", "unknown")
    assert row.weights_bytes is row.kv_bytes is row.total_bytes is row.max_context is None
    assert "brandnew" in row.reason
    for verdict in row.verdicts.values():
        assert (verdict.verdict, verdict.headroom_bytes) == (VerdictKind.UNKNOWN, None)
        assert "brandnew" in verdict.reason
    assert row_of(table, "Q8_0").method == "estimate"


# Answers as llama-fit-params does: MiB of model, context and compute for each device.
PLANNER = """#!/bin/sh
case "$*" in
  *--version*) echo "version: 1.2 (build 9)" >&2 ;;
  *--help*) echo "--no-repack --device --n-cpu-moe --tensor-split" ;;
  *) [ "{answer}" ] && echo "{answer}" || exit 1 ;;
esac
"""


@pytest.mark.parametrize(("answer", "method"), [("Host 5000 2048 300", "engine"), ("", "unknown")])
def test_what_has_no_rules_is_asked_of_this_machines_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, method: str
) -> None:
    write_sparse(tmp_path / "new-Q4_K_M.gguf", model("llama-3.1-8b", "Q4_K_M", architecture="brandnew"))
    program = tmp_path / "llama-fit-params"
    program.write_text(PLANNER.replace("{answer}", answer))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.delenv("LLAMA_SERVER", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    cpu = of_machine(machine(device("cpu", kind="cpu", vendor="cpu", total=64, free=32)))
    row = fits([str(tmp_path)], [CARDS[0], *cpu]).rows[0]
    assert row.method == method
    assert row.verdicts["16 GB"].verdict is VerdictKind.UNKNOWN
    if method == "engine":
        assert "planned by llama.cpp 1.2" in row.reason
        assert row.verdicts["cpu"].verdict is VerdictKind.FITS
        assert 5000 << 20 < (row.weights_bytes or 0) < 5002 << 20
    else:
        assert row.verdicts["cpu"].verdict is VerdictKind.UNKNOWN
        assert "asked instead, llama-fit-params gave no plan" in row.reason


def test_what_cannot_be_read_is_left_out_and_said(tmp_path: Path) -> None:
    write_sparse(tmp_path / "good-Q8_0.gguf", model("llama-3.2-1b", "Q8_0"))
    (tmp_path / "bad-Q4_K_M.gguf").write_bytes(b"no model at all")
    (tmp_path / "cut-Q2_K.gguf").write_bytes(model("llama-3.2-1b", "Q2_K").header()[:5000])
    (tmp_path / "mmproj-F16.gguf").write_bytes(gb.small_model(architecture="clip").data())
    table = fits([str(tmp_path)], CARDS)
    assert [row.quant for row in table.rows] == ["Q8_0"]
    assert {path for path, _ in table.skipped} == {"bad-Q4_K_M.gguf", "cut-Q2_K.gguf"}
    assert [path for path, _ in table.sidecars] == ["mmproj-F16.gguf"]
    for path in ("good-Q8_0.gguf", "mmproj-F16.gguf"):
        (tmp_path / path).unlink()
    with pytest.raises(SourceError, match=r"holds no usable model: .*no GGUF"):
        fits([str(tmp_path)], CARDS)


def test_a_nonsense_header_is_unknown_and_ends_nothing(tmp_path: Path) -> None:
    odd = model("llama-3.2-1b", "Q8_0")
    odd.keys = [(k, kind, 0 if k == "llama.block_count" else value) for k, kind, value in odd.keys]
    write_sparse(tmp_path / "odd-Q8_0.gguf", odd)
    row = fits([str(tmp_path)], CARDS).rows[0]
    assert row.method == "unknown"
    assert "llama.block_count is 0" in row.reason


def test_split_sets_are_one_row(tmp_path: Path) -> None:
    whole = model("llama-3.2-1b", "Q8_0")
    half = len(whole.tensors) // 2
    for index, tensors in enumerate((whole.tensors[:half], whole.tensors[half:])):
        split = [("split.no", gb.UINT16, index), ("split.count", gb.UINT16, 2)]
        keys = [*whole.keys, *split] if index == 0 else split
        write_sparse(tmp_path / f"M-Q8_0-{index + 1:05d}-of-00002.gguf", gb.GGUF(keys, tensors))
    (row,) = fits([str(tmp_path)], CARDS).rows
    write_sparse(tmp_path / "one.gguf", whole)
    alone = Estimator(read_header(tmp_path / "one.gguf"))
    gpu = alone(FootprintSettings(context=16384, backend=Backend.CUDA, gpus=1)).gpus[0]
    assert row.total_bytes == gpu.safe_bytes
    assert row.path == "M-Q8_0-00001-of-00002.gguf"


def test_a_repository_costs_few_bytes_and_gives_the_rows_of_the_folder(
    local_hub: LocalHub, hub_settings: HubSettings, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    header_bytes = 0
    for number, label in enumerate(MATRIX_TYPES):
        file = model("gemma-4-26b-a4b", label, vocabulary=30_000, note="x" * (64 + 32 * number))
        header_bytes += write_sparse(models / f"gemma-4-26B-A4B-it-{label}.gguf", file)
    commit = publish(local_hub, "unsloth/gemma-4-26B-A4B-it-GGUF", {path.name: path for path in models.iterdir()})
    local_hub.log.clear()
    table = fits(["Gemma 4 26B"], CARDS, hub=hub_settings)
    assert table.fetched_bytes == local_hub.file_bytes_sent()
    assert 0 < table.fetched_bytes < 0.5 * header_bytes
    resolved = {row.resolved for row in table.rows}
    assert resolved == {f"hf:unsloth/gemma-4-26B-A4B-it-GGUF@{commit}"}
    here = fits([str(models)], CARDS)
    assert here.fetched_bytes == 0
    assert [replace(row, source="", resolved="") for row in table.rows] == [
        replace(row, source="", resolved="") for row in here.rows
    ]


def test_several_sources_each_once(folder: Path, tmp_path: Path) -> None:
    one, other = str(folder / "llama-3.1-8b.gguf"), str(folder / "gpt-oss-20b.gguf")
    table = fits([one, other, one], CARDS)
    assert [row.source for row in table.rows] == [one, other]
    relative = fits(["gpt-oss-20b.gguf"], CARDS, base_dir=folder)
    assert relative.rows[0].file_bytes == table.rows[1].file_bytes


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"context": 0}, "a context of 0 tokens makes no sense"),
        ({"context": 1 << 40}, "makes no sense"),
        ({"slots": 0}, "0 slots"),
        ({"slots": 1000}, "1 to 256"),
        ({"cache_type_k": "q9_9"}, "no cache type is called 'q9_9'. llama.cpp has f32, f16"),
        ({"cache_type_v": "Q8_0"}, "no cache type is called 'Q8_0'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(QuantsError) as refused:
        FitsSettings(**given)
    assert said in str(refused.value)


def test_without_a_column_there_is_no_answer(folder: Path) -> None:
    with pytest.raises(QuantsError, match="Give --vram, --card or --here"):
        fits([str(folder)], ())


# -- targets


def device(name: str, *, kind: Any = "discrete", vendor: Any = "nvidia", total: int, free: int, **more: Any) -> Device:
    return Device(
        id=name,
        vendor=vendor,
        name=f"the {name}",
        kind=kind,
        memory_total_bytes=total * GIB,
        memory_free_bytes=free * GIB,
        **more,
    )


def machine(*devices: Device, ram: int = 64, free: int = 40) -> NodeProfile:
    return NodeProfile(
        hostname="box",
        os="Linux",
        arch="x86_64",
        probed_at="2026-11-20T00:00:00Z",
        ram_total_bytes=ram * GIB,
        ram_free_bytes=free * GIB,
        devices=devices,
    )


def test_a_card_by_size_offers_what_a_driver_would() -> None:
    target = by_size("24")
    (memory,) = target.devices.gpus
    assert memory.total_bytes == 24_077 << 20  # an RTX 4090 as llama.cpp sees it
    assert (target.name, target.backend, target.devices.host.total_bytes) == ("24 GB", Backend.CUDA, None)
    assert by_size("7.5").name == "7.5 GB"
    for nonsense in ("0", "-1", "100000", "nan", "inf", "", "x24", "24+", "0x24", "17x24", "9x8+8x8", "24 GB", "1e3"):
        with pytest.raises(QuantsError, match=r"is no size of a card|more cards than|'0x24' names no card"):
            by_size(nonsense)


@pytest.mark.parametrize(
    ("text", "name", "sizes", "shares"),
    [
        ("2x24", "2 x 24 GB", (24, 24), None),
        ("24+24", "2 x 24 GB", (24, 24), None),
        ("24+16", "24 GB + 16 GB", (24, 16), (24.0, 16.0)),
        ("2x24+12", "2 x 24 GB + 12 GB", (24, 24, 12), (24.0, 24.0, 12.0)),
    ],
)
def test_several_cards_are_one_machine(
    text: str, name: str, sizes: tuple[int, ...], shares: tuple[float, ...] | None
) -> None:
    target = by_size(text)
    assert target.name == name
    assert [round((memory.total_bytes or 0) / GIB / USABLE_SHARE) for memory in target.devices.gpus] == list(sizes)
    split = target.tensor_split
    assert split is None if shares is None else split is not None and len(split) == len(shares)


def test_a_card_by_name_has_its_makers_backend_and_its_own_kind_of_memory() -> None:
    nvidia, amd, apple = (by_card(find_card(name)) for name in ("rtx-5090", "rx-7900-xtx", "m4 max 128"))
    assert (nvidia.name, nvidia.backend, nvidia.devices.unified) == ("rtx-5090", Backend.CUDA, False)
    assert nvidia.devices.gpus[0].total_bytes == int(32 * GIB * USABLE_SHARE)
    assert amd.backend is Backend.ROCM
    assert (apple.backend, apple.devices.unified) == (Backend.METAL, True)
    assert apple.devices.host.total_bytes == 128 * GIB
    assert apple.devices.gpus[0].total_bytes == 96 * GIB
    with pytest.raises(QuantsError, match=r"a part of the machine's\. Say how much it may take with --vram"):
        by_card(find_card("radeon-890m"))


def test_a_gpu_of_this_machine_is_driven_by_what_its_own_engine_has() -> None:
    """An AMD card behind a build with Vulkan was judged with ROCm's overhead, and plan with Vulkan's."""
    card = device("amd-0", vendor="amd", total=24, free=24)
    assert of_machine(machine(card))[0].backend is Backend.ROCM
    match = DeviceMatch("amd-0", "Vulkan0", "vulkan", "by its name", listed_as="Vulkan0")
    engine = FoundEngine("llama-server", "/x", "b1", matches=(match,))
    assert of_machine(replace(machine(card), engines=(engine,)))[0].backend is Backend.VULKAN


def test_a_machine_offers_its_usable_devices_and_equal_gpus_together() -> None:
    profile = machine(
        device("cpu", kind="cpu", vendor="cpu", total=64, free=40),
        device("nvidia-0", total=24, free=20, reserved_bytes=GIB),
        device("nvidia-1", total=24, free=24),
        device("nvidia-2", total=24, free=24, excluded="it drives the screen"),
        device(
            "amd-0", vendor="amd", kind="unified", total=33, free=30, vram_total_bytes=GIB, gtt_total_bytes=32 * GIB
        ),
    )
    targets = {target.name: target for target in of_machine(profile)}
    assert list(targets) == ["cpu", "nvidia-0", "nvidia-1", "amd-0", "2 x nvidia"]
    assert (targets["cpu"].backend, targets["cpu"].gpus) == (Backend.CPU, 0)
    assert targets["nvidia-0"].devices.gpus[0].total_bytes == 23 * GIB
    assert targets["nvidia-0"].devices.gpus[0].free_bytes == 20 * GIB
    assert targets["nvidia-0"].devices.host.free_bytes == 40 * GIB
    assert [memory.name for memory in targets["2 x nvidia"].devices.gpus] == ["nvidia-0", "nvidia-1"]
    assert targets["amd-0"].backend is Backend.VULKAN
    with pytest.raises(QuantsError, match="box has no device whose memory is known"):
        of_machine(machine())


def test_both_gpus_together_take_what_neither_takes_alone(folder: Path) -> None:
    profile = machine(device("nvidia-0", total=12, free=12), device("nvidia-1", total=12, free=12))
    (row,) = fits([str(folder / "qwen3-30b-a3b.gguf")], of_machine(profile)).rows
    assert {name: each.verdict.value for name, each in row.verdicts.items()} == {
        "nvidia-0": "too_big",
        "nvidia-1": "too_big",
        "2 x nvidia": "fits",
    }


def test_free_memory_decides_on_a_machine_and_the_sentence_says_so(folder: Path) -> None:
    profile = machine(device("nvidia-0", total=24, free=2))
    (row,) = fits([str(folder / "llama-3.1-8b.gguf")], of_machine(profile)).rows
    verdict = row.verdicts["nvidia-0"]
    assert verdict.verdict is VerdictKind.TOO_BIG
    assert "though it would fit if nothing else used it" in verdict.reason


def test_a_column_asked_for_twice_is_there_once() -> None:
    assert [target.name for target in unique([by_size("16"), by_size("32"), by_size("16")])] == ["16 GB", "32 GB"]
