"""Read the header of a file whose tokenizer is already known from a sibling: only the bytes that can differ.

The quants of one model carry the same vocabulary, which is nearly all of a header (5 MB of 5.1 MB is usual). Once one
header of a repository was read whole, the others are read as two small ranges, before and behind the vocabulary, and
the known bytes are put in between. Nothing is taken on faith: the vocabulary must begin with the same bytes, what lies
behind it must parse to the end, and the tensors must then end exactly where the file ends. Anything else, and the
header is read whole. (Two vocabularies of equal length that differ inside would pass: what is kept of them, their
lengths, is the same. Only `tokenizer.*` keys are ever taken from the sibling.)
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from quants.errors import GGUFError, NeedMoreBytes
from quants.gguf import Deferred, HeaderParser

if TYPE_CHECKING:
    from collections.abc import Callable

    from quants.gguf import ArrayMemo, Header

# Below this much to be saved, one larger request beats two small ones.
WORTHWHILE_BYTES: Final = 256 * 1024
# So much of the vocabulary is compared before the rest is believed.
COMPARED_BYTES: Final = 512
# How much longer the parts around the vocabulary may be than the sibling's (imatrix notes, file type).
MARGIN_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Sibling:
    """A header that was read whole.

    Attributes:
        data: the file's first bytes, to the end of its header.
        start: where the first large entry of the vocabulary begins (its key), in bytes.
        end: where the last one ends.
    """

    data: bytes
    start: int
    end: int

    @classmethod
    def of(cls, header: Header, data: bytes | bytearray) -> Sibling | None:
        """What other headers can be spliced with; None where that would save nothing or is not safe."""
        keys = list(header.metadata)
        large = [at for at, key in enumerate(keys) if _is_vocabulary(key, header)]
        if not large or not all(key.startswith("tokenizer.") for key in keys[large[0] : large[-1] + 1]):
            return None
        first, last = (header.metadata[keys[at]] for at in (large[0], large[-1]))
        if not isinstance(first, Deferred) or not isinstance(last, Deferred):
            return None
        parser = HeaderParser()
        with suppress(NeedMoreBytes):
            parser.parse(bytes(data[: first.offset]))  # stops at the entry whose data is not there
        start, end = parser.parsed_bytes, last.offset + last.size_bytes
        return cls(bytes(data[: header.header_bytes]), start, end) if end - start >= WORTHWHILE_BYTES else None


def _is_vocabulary(key: str, header: Header) -> bool:
    return key.startswith("tokenizer.") and isinstance(header.metadata[key], Deferred)


def read_spliced(
    sibling: Sibling, size_bytes: int, read: Callable[[int, int], bytes], memo: ArrayMemo
) -> Header | None:
    """The header of a file like `sibling`, or None where the file turns out not to be like it.

    Args:
        sibling: of the same repository.
        size_bytes: of the file.
        read: gives the file's bytes from one offset to another (exclusive), fewer only at its end.
        memo: holds the sibling's arrays already.

    Raises:
        QuantsError: what `read` raises.
    """
    head = read(0, min(size_bytes, sibling.start + MARGIN_BYTES))
    parser = HeaderParser(memo=memo)
    try:
        return parser.parse(head)  # a file without any vocabulary
    except NeedMoreBytes:
        start = parser.parsed_bytes
    except GGUFError:
        return None
    compared = head[start : start + COMPARED_BYTES]
    if len(compared) < COMPARED_BYTES or not sibling.data.startswith(compared, sibling.start):
        return None
    shift = start - sibling.start
    tail = read(sibling.end + shift, min(size_bytes, len(sibling.data) + shift + MARGIN_BYTES))
    spliced = head[:start] + sibling.data[sibling.start : sibling.end] + tail
    try:
        header = HeaderParser(memo=memo).parse(spliced)
    except GGUFError:  # NeedMoreBytes included: a tail that is so much longer is read whole
        return None
    ends_with_the_file = header.file_bytes <= size_bytes < header.file_bytes + header.alignment
    return header if ends_with_the_file and header.tensors and not header.unknown_types else None
