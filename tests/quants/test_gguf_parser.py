"""The header parser reads what the `gguf` package writes, says what is wrong where, and knows every tensor type."""

from __future__ import annotations

import io
import pickle
import struct
from typing import TYPE_CHECKING, Any, Literal

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quants.errors import GGUFError
from quants.gguf import (
    FILE_TYPES,
    TENSOR_TYPES,
    ArrayMemo,
    Deferred,
    HeaderParser,
    Limits,
    Window,
    combine,
    decode_value,
    read_header,
)
from quants.gguf.types import REMOVED_TENSOR_TYPES
from tests.quants import ggufbytes as gb
from tests.quants.ggufbytes import GGUF, Array, Tensor, small_model, split_model

if TYPE_CHECKING:
    from pathlib import Path


def test_tensor_types_are_those_of_the_gguf_package() -> None:
    theirs = {int(kind): (kind.name, *sizes) for kind, sizes in gguf.constants.GGML_QUANT_SIZES.items()}
    ours = {kind.type_id: (kind.name, kind.block_size, kind.block_bytes) for kind in TENSOR_TYPES.values()}
    assert ours == theirs
    assert {int(kind) for kind in gguf.GGMLQuantizationType} == set(ours)
    assert not set(ours) & set(REMOVED_TENSOR_TYPES)


def test_file_types_are_those_of_the_gguf_package() -> None:
    theirs = {
        int(kind): kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")
        for kind in gguf.LlamaFileType
        if kind.name != "GUESSED"
    }
    assert dict(FILE_TYPES) == theirs


@pytest.mark.parametrize("endianess", list(gguf.GGUFEndian))
def test_reads_what_the_gguf_package_writes(tmp_path: Path, endianess: gguf.GGUFEndian) -> None:
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "qwen3moe", endianess=endianess)
    writer.add_name("Häns 🤖")
    writer.add_block_count(3)
    writer.add_array("qwen3moe.attention.head_count_kv", [1, 2, 3])
    writer.add_array("qwen3moe.flags", [True, False])
    writer.add_array("qwen3moe.factors", [0.5, -2.0])
    writer.add_array("general.languages", ["de", "en"])
    for method, value in (
        ("add_uint8", 200),
        ("add_int8", -3),
        ("add_uint16", 60000),
        ("add_int16", -300),
        ("add_int32", -70000),
        ("add_uint64", 2**63),
        ("add_int64", -(2**40)),
        ("add_float32", 0.25),
        ("add_float64", 0.1),
        ("add_bool", True),
    ):
        getattr(writer, method)(f"x.{method}", value)
    for kind, (block, size) in gguf.constants.GGML_QUANT_SIZES.items():
        if kind.name in {"F32", "F16"}:
            writer.add_tensor(f"t.{kind.name}", np.zeros((2, block * 4), {"F32": "f4", "F16": "f2"}[kind.name]))
        else:
            writer.add_tensor(f"t.{kind.name}", np.zeros((2, size * 4), np.uint8), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    header = read_header(path)
    reader = gguf.GGUFReader(path)
    assert header.version == 3
    assert header.byte_order == ("little" if endianess == gguf.GGUFEndian.LITTLE else "big")
    assert header.data_offset == reader.data_offset
    assert header.file_bytes <= path.stat().st_size < header.file_bytes + header.alignment
    for key, found in header.metadata.items():
        field = reader.get_field(key)
        assert field is not None
        assert (list(found) if isinstance(found, tuple) else found) == field.contents(), key
    assert {key for key in reader.fields if not key.startswith("GGUF.")} == set(header.metadata)
    for ours, theirs in zip(header.tensors, reader.tensors, strict=True):
        assert ours.name == theirs.name
        assert ours.type_id == int(theirs.tensor_type)
        assert ours.shape == tuple(int(extent) for extent in theirs.shape)
        assert ours.size_bytes == int(theirs.n_bytes)
        assert header.data_offset + ours.offset == int(theirs.data_offset)
    assert header.architecture == "qwen3moe"
    assert header.name == "Häns 🤖"
    assert header.get("{arch}.block_count") == 3
    assert header.per_layer("{arch}.attention.head_count_kv", 3) == (1, 2, 3)
    assert header.per_layer("{arch}.block_count", 2) == (3, 3)


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("version", [2, 3])
def test_versions_and_byte_orders(version: int, order: Literal["little", "big"]) -> None:
    model = small_model(order=order)
    model.version = version
    header = read_header(model.data())
    assert (header.version, header.byte_order) == (version, order)
    assert header.header_bytes == len(model.header())
    assert [tensor.offset for tensor in header.tensors] == model.offsets()
    assert header.file_bytes == len(model.data())
    assert header.file_type == "Q4_K_M"
    assert header.length("tokenizer.ggml.tokens") == 8
    assert header.weight_bytes == 8 * 144 + 4 * 2 * 34 + 4 * 64 * 4 + 20
    assert pickle.loads(pickle.dumps(header)) == header
    assert header.parameters == 2048 + 256 + 256 + 5


def test_a_large_vocabulary_is_counted_not_decoded_and_can_be_asked_for(tmp_path: Path) -> None:
    model = small_model(tokens=40_000, extra=[("tokenizer.ggml.scores", gb.ARRAY, Array(gb.FLOAT32, [0.5] * 40_000))])
    path = tmp_path / "model.gguf"
    path.write_bytes(model.data())
    header = read_header(path)
    tokens = header.get("tokenizer.ggml.tokens")
    assert isinstance(tokens, Deferred)
    assert (tokens.type_name, len(tokens)) == ("string", 40_000)
    assert header.length("tokenizer.ggml.scores") == 40_000
    raw = path.read_bytes()[tokens.offset : tokens.offset + tokens.size_bytes]
    assert raw.startswith(struct.pack("<Q", 2) + b"t0")
    assert raw.endswith(b"t39999")
    assert decode_value(path, "tokenizer.ggml.tokens")[39_999] == "t39999"
    assert decode_value(path, "tokenizer.ggml.scores") == (0.5,) * 40_000


def test_per_layer_arrays_are_never_shortened() -> None:
    values = tuple(range(16_384))
    model = small_model(extra=[("llama.wide", gb.ARRAY, Array(gb.UINT32, values))])
    assert read_header(model.data()).get("llama.wide") == values
    longer = small_model(extra=[("llama.wide", gb.ARRAY, Array(gb.UINT32, (*values, 1)))])
    header = read_header(longer.data())
    assert header.length("llama.wide") == 16_385
    with pytest.raises(GGUFError, match="length 16,385 where a number for each layer"):
        header.per_layer("llama.wide", 2)
    with pytest.raises(GGUFError, match="2 values for 3 layers"):
        header.per_layer("{arch}.attention.head_count_kv", 3)


def test_long_texts_are_deferred_and_arrays_may_nest() -> None:
    nested = Array(gb.ARRAY, [Array(gb.STRING, ["a", "bc"]), Array(gb.UINT8, [1, 2])])
    model = small_model(extra=[("x.long", gb.STRING, "é" * 600_000), ("x.nested", gb.ARRAY, nested)])
    header = read_header(model.data())
    assert header.get("x.long") == Deferred("string", 1_200_000, header.get("x.long").offset, 1_200_000)
    assert header.length("x.nested") == 2
    decoded = read_header(model.data(), decode={"x.long", "x.nested"})
    assert decoded.get("x.long") == "é" * 600_000
    assert decoded.get("x.nested") == (("a", "bc"), (1, 2))


def test_wrong_kinds_of_values_are_named() -> None:
    header = read_header(small_model().data())
    with pytest.raises(GGUFError, match=r"llama.attention.head_count_kv is an array of 2 values where a whole number"):
        header.integer("{arch}.attention.head_count_kv")
    with pytest.raises(GGUFError, match="'llama' where a number belongs"):
        header.number("general.architecture")
    with pytest.raises(GGUFError, match="2 where a text belongs"):
        header.text("{arch}.block_count")
    with pytest.raises(GGUFError, match="2 where an array belongs"):
        header.length("{arch}.block_count")
    assert header.integer("x.missing", 7) == 7
    assert header.number("{arch}.block_count") == 2.0
    assert header.text("x.missing") is None
    assert header.length("x.missing") is None
    assert header.per_layer("x.missing", 2) is None


def parse(data: bytes, *, first_bytes: int = 64, most_bytes: int = 1 << 20, **more: Any) -> HeaderParser:
    """A parser that is done with `data`, read in pieces of that size."""
    window = Window(lambda a, b: data[a:b], size_bytes=len(data), first_bytes=first_bytes, most_bytes=most_bytes)
    parser = HeaderParser(window, **more)
    parser.parse()
    return parser


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_any_way_of_reading_gives_the_same_header(data: st.DataObject) -> None:
    order: Literal["little", "big"] = data.draw(st.sampled_from(["little", "big"]))
    nested = Array(gb.ARRAY, [Array(gb.STRING, ["x" * 9]), Array(gb.STRING, [])])
    large = Array(gb.STRING, ["y" * (number % 7) for number in range(data.draw(st.sampled_from([3, 17_000])))])
    extra = [("x.nested", gb.ARRAY, nested), ("x.large", gb.ARRAY, large), ("x.text", gb.STRING, "z" * 600_000)]
    model = small_model(tokens=data.draw(st.integers(0, 40)), order=order, extra=extra)
    head = model.header()
    asked: list[tuple[int, int]] = []
    given_bytes = data.draw(st.integers(100, 100_000))

    def read(start: int, end: int) -> bytes:
        asked.append((start, end))
        return head[start : min(end, start + given_bytes)]

    first_bytes, most_bytes = data.draw(st.integers(1, 4000)), data.draw(st.integers(100, 100_000))
    window = Window(read, size_bytes=len(head), first_bytes=first_bytes, most_bytes=most_bytes)
    assert HeaderParser(window).parse() == read_header(head)
    assert all(start < end <= len(head) for start, end in asked)


def test_what_nobody_needs_is_not_read() -> None:
    scores = Array(gb.FLOAT32, [0.5] * 100_000)
    model = small_model(extra=[("x.scores", gb.ARRAY, scores), ("x.text", gb.STRING, "z" * 600_000)])
    head = model.header()
    read_bytes = 0

    def read(start: int, end: int) -> bytes:
        nonlocal read_bytes
        read_bytes += end - start
        return head[start:end]

    header = HeaderParser(Window(read, size_bytes=len(head), first_bytes=1000, most_bytes=1000)).parse()
    assert header == read_header(head)
    assert len(head) > 1_000_000
    assert read_bytes < 10_000


def test_what_was_passed_over_must_be_there() -> None:
    for kind, value in ((gb.ARRAY, Array(gb.FLOAT32, [0.5] * 100_000)), (gb.STRING, "z" * 600_000)):
        head = GGUF([("x.large", kind, value)]).header()
        assert read_header(head).header_bytes == len(head)
        with pytest.raises(GGUFError, match="cut off within its header"):
            read_header(head[:-1])


def test_every_cut_is_a_clear_error() -> None:
    head = small_model().header()
    for end in range(len(head)):
        with pytest.raises(GGUFError, match="empty" if end == 0 else "cut off within its header"):
            read_header(head[:end])


def test_a_path_and_an_open_file_are_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(small_model(tokens=500_000).data())
    assert read_header(path) == read_header(str(path)) == read_header(io.BytesIO(path.read_bytes()))
    path.write_bytes(path.read_bytes()[:5_000_000])
    with pytest.raises(GGUFError, match=f"{path}.*cut off within its header"):
        read_header(path)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"", "empty"),
        (bytes(4096), "begins with zeros"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS pointer.*git lfs pull"),
        (b"  <!DOCTYPE html><html>", "web page"),
        (b"PK\x03\x04....", "ZIP archive"),
        (b"tjgg....", "GGJT"),
        (struct.pack("<Q", 80) + b'{"__metadata__"', "safetensors"),
        (b"MZ\x90\x00", r"begins with b'MZ\\x90"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1 is no longer read"),
        (b"GGUF" + struct.pack("<IQQ", 9, 0, 0), "version 9 is not known"),
        (b"GGUF" + struct.pack("<IQQ", 0, 0, 0), "version 0 is not known"),
    ],
)
def test_other_files_are_named(head: bytes, message: str) -> None:
    with pytest.raises(GGUFError, match=message):
        read_header(head, where="model.gguf")


HOSTILE: dict[str, tuple[bytes, str]] = {
    "tensor count": (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), r"announces 9,223,372,036,854,775,808 tensors"),
    "key count": (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40), r"announces 1,099,511,627,776 metadata keys"),
    "key length": (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**62), r"metadata key is 4,611,686,018,427,387,904 bytes"),
    "key text": (
        GGUF([("k", gb.UINT8, 1)]).header().replace(b"\x01\0\0\0\0\0\0\0k", b"\x01\0\0\0\0\0\0\0\xff"),
        "UTF-8",
    ),
    "value type": (GGUF([("k", gb.UINT8, 1)]).header()[:-5] + struct.pack("<IB", 77, 0), "value type 77"),
    "array type": (GGUF([("k", gb.ARRAY, Array(99, []))]).header(), "array of value type 99"),
    "bool": (GGUF([("k", gb.BOOL, 2)]).header(), "bool of value 2"),
    "twice": (GGUF([("k", gb.BOOL, 1), ("k", gb.BOOL, 1)]).header(), "key 'k' appears twice"),
    "array length": (
        GGUF([("k", gb.ARRAY, Array(gb.UINT8, []))]).header()[:-8] + bytes([255] * 8),
        "array of 18,446,744",
    ),
    "text length": (
        GGUF([("k", gb.STRING, "")]).header()[:-8] + bytes([255] * 8),
        "18,446,744,073,709,551,615 bytes long",
    ),
    "alignment": (GGUF([("general.alignment", gb.UINT32, 48)]).header(), "alignment is 48, no power of two"),
    "alignment type": (GGUF([("general.alignment", gb.STRING, "x")]).header(), "alignment is x, no power of two"),
    "architecture": (GGUF([("general.architecture", gb.UINT32, 7)]).header(), "architecture is 7 where a text belongs"),
    "dims": (GGUF([], [Tensor("t", (1, 1, 1, 1, 1), 0, 4)]).header(), "5 dimensions"),
    "elements": (GGUF([], [Tensor("t", (2**40, 2**40), 0, 0)]).header(), "more elements than can be counted"),
    "rows": (GGUF([], [Tensor("t", (33,), 8, 0)]).header(), r"rows of 33 elements, no whole number of Q8_0 blocks"),
    "offset": (GGUF([], [Tensor("t", (32,), 8, 34, offset=2**63)]).header(), "which no file reaches"),
    "unaligned": (GGUF([], [Tensor("t", (32,), 8, 34, offset=7)]).header(), "no multiple of 32"),
    "overlap": (
        GGUF([], [Tensor("t", (64,), 0, 256), Tensor("u", (64,), 0, 256, offset=224)]).header(),
        "'u' begins within 't', at data byte 224",
    ),
    "all at one place": (
        GGUF([], [Tensor(f"t{n}", (64,), 0, 0, offset=0) for n in range(9)]).header(),
        "begins within",
    ),
    "tensor twice": (GGUF([], [Tensor("t", (1,), 0, 4)] * 2).header(), "tensor 't' appears twice"),
    "tensor name": (GGUF([], [Tensor("t" * 200, (1,), 0, 4)]).header(), "tensor name is 200 bytes long"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_are_refused_by_what_and_where(name: str) -> None:
    head, message = HOSTILE[name]
    with pytest.raises(GGUFError, match=message):
        read_header(head)
    with pytest.raises(GGUFError, match=message):
        parse(head + bytes(1 << 20), first_bytes=len(head), most_bytes=1)  # at once, with nothing more to be read


def test_string_lengths_that_lead_out_of_the_header() -> None:
    head = bytearray(GGUF([("k", gb.ARRAY, Array(gb.STRING, ["a", "b", "c"]))]).header())
    at = head.rindex(b"\x01\0\0\0\0\0\0\0b")
    head[at : at + 8] = struct.pack("<Q", 2**64 - 1)
    with pytest.raises(GGUFError, match="string 1 of 'k' is longer than any header"):
        read_header(bytes(head))
    with pytest.raises(GGUFError, match="string 1 of 'k' is longer than any header"):
        parse(bytes(head), first_bytes=1, most_bytes=1)


def test_nesting_is_bounded() -> None:
    value = Array(gb.UINT8, [1])
    for _ in range(5):
        value = Array(gb.ARRAY, [value])
    with pytest.raises(GGUFError, match="more than 4 deep"):
        read_header(GGUF([("k", gb.ARRAY, value)]).header())


def test_a_header_longer_than_the_cap_is_refused() -> None:
    with pytest.raises(GGUFError, match="longer than 100 bytes"):
        read_header(small_model().data(), limits=Limits(header_bytes=100))


def test_unknown_tensor_types_are_measured_by_their_room() -> None:
    tensors = [Tensor("a", (32,), 57, 40), Tensor("b", (32,), 8, 34), Tensor("c", (32,), 31, 18)]
    header = read_header(small_model(tensors=tensors).data())
    assert header.unknown_types == (31, 57)
    assert [(tensor.type_name, tensor.size_bytes) for tensor in header.tensors] == [
        ("type-57", 64),
        ("Q8_0", 34),
        ("Q4_0_4_4", 0),
    ]


def test_a_file_without_all_its_data_is_told(tmp_path: Path) -> None:
    model = small_model()
    header = read_header(model.data())
    header.require_data(len(model.data()), "model.gguf")
    with pytest.raises(GGUFError, match=r"model.gguf: cut off: .* \(1 are missing\)"):
        header.require_data(len(model.data()) - 1, "model.gguf")


def test_alignment_is_obeyed() -> None:
    model = small_model(extra=[("general.alignment", gb.UINT32, 256)])
    model.alignment = 256
    header = read_header(model.data())
    assert header.alignment == 256
    assert header.data_offset % 256 == 0
    assert header.file_bytes == len(model.data())


def test_equal_tokenizers_are_walked_once_and_different_ones_are_not_confused() -> None:
    memo = ArrayMemo()
    first = small_model(tokens=20_000).header()
    second = bytearray(small_model(tokens=20_000, file_type=18).header())
    other = first.replace(b"\x06\0\0\0\0\0\0\0t12345", b"\x05\0\0\0\0\0\0\0t1234")
    for head in (first, bytes(second), other, first):
        assert read_header(head, memo=memo) == read_header(head)


def test_split_sets_are_put_together() -> None:
    shards = [read_header(shard.data()) for shard in split_model(3)]
    assert shards[1].architecture is None
    whole = combine(shards)
    assert whole.architecture == "llama"
    assert [(tensor.name, tensor.shard) for tensor in whole.tensors] == [
        (f"blk.{index}.part{number}", index) for index in range(3) for number in range(2)
    ]
    assert whole.file_bytes == sum(len(shard.data()) for shard in split_model(3))
    assert whole.weight_bytes == 6 * 34
    alone = read_header(small_model().data())
    assert combine([alone]) is alone


def _without(shards: list[Any], *indices: int) -> list[Any]:
    return [shard for index, shard in enumerate(shards) if index not in indices]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: _without(s, 2), "a set of 3 shards, of which 2 are there"),
        (lambda s: [s[0], s[2], s[1]], "shard 2 of 3 says of itself that it is number 3 of 3"),
        (lambda s: [s[0], s[1], read_header(small_model().data())], "shard 3 of 3 says of itself that it stands alone"),
        (lambda s: [read_header(small_model().data()), s[1], s[2]], "the first of 3 shards says of itself"),
        (lambda _: [], "without files"),
    ],
)
def test_split_sets_that_do_not_belong_together(change: Any, message: str) -> None:
    shards = [read_header(shard.data()) for shard in split_model(3)]
    with pytest.raises(GGUFError, match=message):
        combine(change(shards))


def test_split_sets_with_lost_or_doubled_tensors() -> None:
    shards = split_model(2)
    shards[1].tensors.pop()
    with pytest.raises(GGUFError, match="hold 3 tensors, the set announces 4"):
        combine([read_header(shard.data()) for shard in shards])
    shards = split_model(2)
    shards[1].tensors[0] = shards[0].tensors[0]
    with pytest.raises(GGUFError, match="in two shards"):
        combine([read_header(shard.data()) for shard in shards])
