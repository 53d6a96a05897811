"""The event stream parser: what the standard says, whatever the chunking, never more memory than allowed."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.stream import SseParser, StreamError


def parse(stream: bytes, cuts: list[int] | None = None, *, limit_bytes: int = 1 << 20) -> list[bytes]:
    """The payloads of `stream`, fed in pieces cut at `cuts`."""
    parser = SseParser(limit_bytes=limit_bytes)
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts or []), len(stream)]
    return [payload for start, end in pairwise(edges) for payload in parser.feed(stream[start:end])]


@pytest.mark.parametrize(
    ("stream", "payloads"),
    [
        (b"data: one\n\ndata: two\n\n", [b"one", b"two"]),
        (b"data: one\r\n\r\ndata: two\r\n\r\n", [b"one", b"two"]),
        (b"data: one\r\rdata: two\r\r", [b"one", b"two"]),
        (b"data:no space\n\ndata:  two spaces\n\n", [b"no space", b" two spaces"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data\ndata\n\n", [b"\n"]),
        (b": ping\n\ndata: x\n: in between\n\n", [b"x"]),
        (b"event: message\nid: 7\nretry: 10\ndata: x\nunknown: y\n\n", [b"x"]),
        (b"data: [DONE]\n\n", [b"[DONE]"]),
        (b"data: unfinished\n", []),
        (b"data: unfinished", []),
        (b"\n\n\n", []),
        (b"", []),
        (b"\xef\xbb\xbfdata: after a byte order mark\n\n", [b"after a byte order mark"]),
        (b"data: \xe2\x80\xa8 is no line end\x0b\x0c\x1c\x85\n\n", [b"\xe2\x80\xa8 is no line end\x0b\x0c\x1c\x85"]),
        (b'error: {"code": 500}\n\n', [b'{"error": {"code": 500}}']),
    ],
)
def test_by_the_standard(stream: bytes, payloads: list[bytes]) -> None:
    assert parse(stream) == payloads
    assert parse(stream, list(range(len(stream)))) == payloads


_fields = st.sampled_from([b"data: ", b"data:", b"data", b": ", b"event: ", b"", b"error: "])
_texts = st.binary(max_size=12).map(lambda text: text.replace(b"\n", b"").replace(b"\r", b""))
_ends = st.sampled_from([b"\n", b"\r", b"\r\n"])
_streams = st.lists(st.tuples(_fields, _texts, _ends).map(b"".join), max_size=30).map(b"".join)


@given(_streams | st.binary(max_size=200), st.lists(st.integers(min_value=0), max_size=20))
@settings(deadline=None)
def test_any_chunking_gives_the_same(stream: bytes, cuts: list[int]) -> None:
    assert parse(stream, cuts) == parse(stream)


@given(_streams)
@settings(deadline=None)
def test_line_ends_do_not_matter(stream: bytes) -> None:
    lines = stream.splitlines()
    with_ends = [b"".join(line + end for line in lines) for end in (b"\n", b"\r", b"\r\n")]
    assert len({tuple(parse(each)) for each in with_ends}) == 1


@given(st.lists(_texts, min_size=1, max_size=10), st.lists(st.integers(min_value=0), max_size=10))
@settings(deadline=None)
def test_what_is_written_is_what_is_read(texts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(b"data: " + text + b"\n\n" for text in texts)
    assert parse(stream, cuts) == texts


class TestLimits:
    def test_of_a_line(self) -> None:
        assert parse(b"data: " + b"x" * 94 + b"\n\n", limit_bytes=100) == [b"x" * 94]
        with pytest.raises(StreamError, match="more than 100 bytes"):
            parse(b"data: " + b"x" * 95 + b"\n\n", limit_bytes=100)

    def test_of_a_line_that_never_ends(self) -> None:
        with pytest.raises(StreamError):
            parse(b"x" * 10_000, list(range(0, 10_000, 10)), limit_bytes=1000)

    def test_of_an_event_that_never_ends(self) -> None:
        with pytest.raises(StreamError):
            parse(b"data: xxxxxxx\n" * 1000, list(range(0, 14_000, 14)), limit_bytes=1000)

    def test_do_not_add_up_over_events(self) -> None:
        assert (
            len(parse(b"data: " + b"x" * 80 + b"\n\n" + (b"data: " + b"x" * 80 + b"\n\n") * 50, limit_bytes=100)) == 51
        )

    @given(st.binary(max_size=300), st.lists(st.integers(min_value=0), max_size=20))
    @settings(deadline=None)
    def test_hold_for_anything(self, stream: bytes, cuts: list[int]) -> None:
        try:
            payloads = parse(stream, cuts, limit_bytes=40)
        except StreamError:
            return
        assert all(len(payload) <= 60 for payload in payloads)
