"""Split sets: the headers of all shards put together to the header of the model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from quants.errors import GGUFError
from quants.gguf.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quants.gguf.header import Header, TensorInfo


def combine(headers: Sequence[Header]) -> Header:
    """The header of a whole split set: the first shard's metadata, the tensors of all, sizes added up.

    A single header that belongs to no set is returned as it is. `data_offset` stays that of the first shard; offsets of
    tensors count from the data section of their own `shard`.

    Args:
        headers: of all shards, in order.

    Raises:
        GGUFError: a shard missing, too many, out of order, of another architecture or byte order, or tensors that do
            not add up to `split.tensors.count`, or are more than are read of one file.
    """
    if not headers:
        raise GGUFError("a split set without files")
    first = headers[0]
    split = first.split
    if len(headers) == 1 and split is None:
        return first
    if split is None:
        raise GGUFError(f"the first of {len(headers)} shards says of itself that it stands alone")
    if split.count != len(headers):
        raise GGUFError(f"a set of {split.count} shards, of which {len(headers)} are there")
    count = sum(len(header.tensors) for header in headers)
    if count > LIMITS.tensors:
        raise GGUFError(f"the shards hold {count:,} tensors; at most {LIMITS.tensors:,} are read")
    tensors: list[TensorInfo] = []
    names: set[str] = set()
    for index, header in enumerate(headers):
        own = header.split
        if own is None or own.index != index or own.count != split.count:
            place = "stands alone" if own is None else f"is number {own.index + 1} of {own.count}"
            raise GGUFError(f"shard {index + 1} of {split.count} says of itself that it {place}")
        if header.byte_order != first.byte_order or header.architecture not in {None, first.architecture}:
            raise GGUFError(f"shard {index + 1} of {split.count} belongs to another model")
        for tensor in header.tensors:
            if tensor.name in names:
                raise GGUFError(f"tensor {tensor.name!r} is in two shards")
            names.add(tensor.name)
            tensors.append(replace(tensor, shard=index))
    if split.tensors is not None and split.tensors != len(tensors):
        raise GGUFError(f"the shards hold {len(tensors)} tensors, the set announces {split.tensors}")
    return replace(
        first,
        tensors=tuple(tensors),
        header_bytes=sum(header.header_bytes for header in headers),
        file_bytes=sum(header.file_bytes for header in headers),
        unknown_types=tuple(sorted({type_id for header in headers for type_id in header.unknown_types})),
    )
