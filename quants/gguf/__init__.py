"""GGUF headers: a bounded parser for metadata and tensor tables, from files and from byte streams.

    header = read_header("model.gguf")
    header.architecture, header.get("llama.block_count"), header.tensors[0].size_bytes

`HeaderParser` is the incremental form for streams: it raises `NeedMoreBytes`, which says how many it needs.
"""

from quants.errors import GGUFError, NeedMoreBytes
from quants.gguf.header import Deferred, Header, Split, TensorInfo
from quants.gguf.limits import LIMITS, ArrayMemo, Limits
from quants.gguf.parser import HeaderParser
from quants.gguf.read import decode_value, read_header
from quants.gguf.split import combine
from quants.gguf.types import FILE_TYPES, TENSOR_TYPES, TensorType

__all__ = [
    "FILE_TYPES",
    "LIMITS",
    "TENSOR_TYPES",
    "ArrayMemo",
    "Deferred",
    "GGUFError",
    "Header",
    "HeaderParser",
    "Limits",
    "NeedMoreBytes",
    "Split",
    "TensorInfo",
    "TensorType",
    "combine",
    "decode_value",
    "read_header",
]
