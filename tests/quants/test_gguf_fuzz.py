"""Property-based fuzz of the header parser: any bytes give a Header or a GGUFError, in bounded time and memory.

A short run by default; `QUANTSWEEP_FUZZ_CASES=100000` makes the long one.
"""

from __future__ import annotations

import os
import struct
import tracemalloc
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quants.errors import GGUFError
from quants.gguf import HeaderParser, Window, read_header
from quants.gguf.limits import LIMITS
from tests.quants import ggufbytes as gb
from tests.quants.ggufbytes import GGUF, Array, Tensor

CASES = int(os.environ.get("QUANTSWEEP_FUZZ_CASES", "600"))
LONG = CASES > 10_000
FUZZ = settings(
    max_examples=CASES // 3,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck) if LONG else [HealthCheck.too_slow],
)

scalars = {
    gb.UINT8: st.integers(0, 255),
    gb.INT8: st.integers(-128, 127),
    gb.UINT16: st.integers(0, 2**16 - 1),
    gb.INT16: st.integers(-(2**15), 2**15 - 1),
    gb.UINT32: st.integers(0, 2**32 - 1),
    gb.INT32: st.integers(-(2**31), 2**31 - 1),
    gb.FLOAT32: st.floats(width=32),
    gb.BOOL: st.integers(0, 1),
    gb.STRING: st.text(max_size=12),
    gb.UINT64: st.integers(0, 2**64 - 1),
    gb.INT64: st.integers(-(2**63), 2**63 - 1),
    gb.FLOAT64: st.floats(),
}
flat = st.sampled_from(sorted(scalars)).flatmap(
    lambda kind: st.lists(scalars[kind], max_size=5).map(lambda items: Array(kind, items))
)
arrays = st.recursive(
    flat, lambda inner: st.lists(inner, max_size=3).map(lambda items: Array(gb.ARRAY, items)), max_leaves=4
)
entries = st.one_of(
    st.sampled_from(sorted(scalars)).flatmap(lambda kind: st.tuples(st.just(kind), scalars[kind])),
    arrays.map(lambda value: (gb.ARRAY, value)),
)
keys = st.lists(
    st.tuples(
        st.sampled_from(["general.architecture", "general.alignment", "split.count", "a.b"]) | st.text(max_size=8),
        entries,
    ).map(lambda pair: (pair[0], *pair[1])),
    max_size=5,
)
tensors = st.lists(
    st.builds(
        Tensor,
        st.text(max_size=8),
        st.lists(st.integers(0, 2**16) | st.sampled_from([32, 256, 2**63, 2**64 - 1]), max_size=5).map(tuple),
        st.integers(0, 45),
        st.integers(0, 4096),
        st.none() | st.integers(0, 2**64 - 1),
    ),
    max_size=4,
)


@st.composite
def sound_or_odd_headers(draw: st.DrawFn) -> bytes:
    order: Literal["little", "big"] = draw(st.sampled_from(["little", "big"]))
    return GGUF(draw(keys), draw(tensors), draw(st.sampled_from([2, 3])), order).header()


@st.composite
def damaged_headers(draw: st.DrawFn) -> bytes:
    """A header with some bytes or integers overwritten, cut out, or put in."""
    head = bytearray(draw(sound_or_odd_headers()))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(head) - 1)))
        action = draw(st.integers(0, 3))
        if action == 0:
            head[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif action == 1:
            value = draw(st.sampled_from([0, 1, 8, 9, 255, 2**16, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1]))
            head[at : at + 8] = struct.pack(draw(st.sampled_from("<>")) + "Q", value)
        elif action == 2:
            del head[at : at + draw(st.integers(1, 20))]
        else:
            head[at:at] = draw(st.binary(max_size=20))
    return bytes(head)


def says_what_and_where(error: GGUFError) -> None:
    assert error.message
    assert error.offset is None or error.offset >= 0


def check(data: bytes) -> None:
    """Parsing ends in a Header or a GGUFError; by pieces of any size it ends the same way."""
    try:
        whole = repr(read_header(data))
    except GGUFError as error:
        whole = None
        says_what_and_where(error)
    for first_bytes, most_bytes in ((7, 11), (1, 64), (40, 1 << 20)):
        window = Window(lambda a, b: data[a:b], size_bytes=len(data), first_bytes=first_bytes, most_bytes=most_bytes)
        try:
            found = repr(HeaderParser(window).parse())
        except GGUFError:
            found = None
        assert found == whole


@FUZZ
@given(sound_or_odd_headers())
def test_odd_headers(data: bytes) -> None:
    check(data)


@FUZZ
@given(damaged_headers())
def test_damaged_headers(data: bytes) -> None:
    check(data)


@FUZZ
@given(st.binary(max_size=200), st.integers(0, 3), st.sampled_from("<>"))
def test_noise_behind_a_magic(data: bytes, version: int, order: str) -> None:
    check(b"GGUF" + struct.pack(f"{order}I", version) + data)
    check(data)


def _more_text_than_is_decoded() -> GGUF:
    keys: list[tuple[str, int, object]] = [(str(number), gb.STRING, "x" * 400_000 + "🤖") for number in range(20)]
    keys += [(f"array{number}", gb.ARRAY, Array(gb.STRING, ["ab"] * 16_000)) for number in range(10)]
    return GGUF(keys)


def test_texts_beyond_what_is_decoded_cost_nothing() -> None:
    """What a header takes in all is in test_hostile_headers.py."""
    data = _more_text_than_is_decoded().header()
    tracemalloc.start()
    try:
        header = read_header(data)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert header.header_bytes == len(data)
    assert peak_bytes < 16_000_000


def test_what_a_short_file_announces_costs_nothing() -> None:
    announced = [
        b"GGUF" + struct.pack("<IQQ", 3, LIMITS.tensors, LIMITS.keys),
        GGUF([("k", gb.ARRAY, Array(gb.UINT8, []))]).header()[:-8] + struct.pack("<Q", 2**25),
        GGUF([("k", gb.ARRAY, Array(gb.STRING, []))]).header()[:-8] + struct.pack("<Q", 2**21),
        GGUF([("k", gb.STRING, "")]).header()[:-8] + struct.pack("<Q", 2**25),
    ]
    tracemalloc.start()
    try:
        for data in announced:
            with pytest.raises(GGUFError, match="cut off within its header"):
                read_header(data)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1024 * 1024
