"""What headers of one repository need not be read again: the tokenizer that the quants of a model share.

The quants of one model carry the same vocabulary, which is nearly all of a header (5 MB of 5.1 MB is usual). Once one
header of a repository was read whole, of the others only what lies before and behind the vocabulary is fetched. Nothing
is taken on faith: the vocabulary must begin with the same bytes, what lies behind it must parse to the end, and the
tensors must then end exactly where the file ends. Anything else, and the header is read whole. (Two vocabularies of
equal length that differ inside would pass: what is kept of them, their lengths, is the same. Only `tokenizer.*` keys
are ever taken from the sibling.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from quants.gguf import Deferred, KnownEntries

if TYPE_CHECKING:
    from quants.gguf import Header, HeaderParser
    from quants.gguf.header import Value

# Below this much to be saved, one larger request beats two small ones.
WORTHWHILE_BYTES: Final = 256 * 1024
# So much of the vocabulary is compared before the rest is believed.
COMPARED_BYTES: Final = 512
# How much longer the parts around the vocabulary may be than the sibling's (imatrix notes, file type).
MARGIN_BYTES: Final = 4096
# So much of the beginning of a file has to be kept to find the vocabulary's beginning in it.
BEGINNING_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Sibling:
    """A header that was read whole.

    Attributes:
        first_bytes: how much of another file to read at first: up to the vocabulary, and a little of it.
        known: the entries of the vocabulary.
    """

    first_bytes: int
    known: KnownEntries

    @classmethod
    def of(cls, header: Header, parser: HeaderParser, beginning: bytes) -> Sibling | None:
        """What other headers can be read with; None where that would save nothing or is not safe.

        Args:
            header: read whole.
            parser: that read it.
            beginning: the file's first `BEGINNING_BYTES`.
        """
        keys = list(header.metadata)
        large = [at for at, key in enumerate(keys) if _is_vocabulary(key, header)]
        if not large:
            return None
        between = keys[large[0] : large[-1] + 1]
        last = header.metadata[between[-1]]
        start = parser.starts.get(between[0], len(beginning))
        compared = beginning[start : start + COMPARED_BYTES]
        if not isinstance(last, Deferred) or len(compared) < COMPARED_BYTES:
            return None
        size_bytes = last.offset + last.size_bytes - start
        if size_bytes < WORTHWHILE_BYTES or not all(key.startswith("tokenizer.") for key in between):
            return None
        entries = {key: _counted_from(header.metadata[key], start) for key in between}
        rest_bytes = header.header_bytes - start - size_bytes + MARGIN_BYTES
        return cls(start + MARGIN_BYTES, KnownEntries(between[0], compared, entries, size_bytes, rest_bytes))


def _is_vocabulary(key: str, header: Header) -> bool:
    return key.startswith("tokenizer.") and isinstance(header.metadata[key], Deferred)


def _counted_from(value: Value, start: int) -> Value:
    return replace(value, offset=value.offset - start) if isinstance(value, Deferred) else value


def ends_with(header: Header, size_bytes: int) -> bool:
    """Whether the tensors of a header end where a file of that size does."""
    ends = header.file_bytes <= size_bytes < header.file_bytes + header.alignment
    return ends and bool(header.tensors) and not header.unknown_types
