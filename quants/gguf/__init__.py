"""GGUF headers: a bounded parser for metadata and tensor tables, from files and from byte streams.

    header = read_header("model.gguf")
    header.architecture, header.get("llama.block_count"), header.tensors[0].size_bytes

`HeaderParser` is the form for other sources, over a `Window` on whatever can be read by offset.
"""

from quants.errors import GGUFError
from quants.gguf.header import Deferred, Header, Split, TensorInfo
from quants.gguf.limits import LIMITS, LISTING_BYTES, SET_BYTES, Limits, held_bytes
from quants.gguf.memo import ArrayMemo
from quants.gguf.parser import HeaderParser, KnownEntries
from quants.gguf.read import decode_value, read_header
from quants.gguf.split import combine
from quants.gguf.types import FILE_TYPES, TENSOR_TYPES, TensorType
from quants.gguf.window import Window

__all__ = [
    "FILE_TYPES",
    "LIMITS",
    "LISTING_BYTES",
    "SET_BYTES",
    "TENSOR_TYPES",
    "ArrayMemo",
    "Deferred",
    "GGUFError",
    "Header",
    "HeaderParser",
    "KnownEntries",
    "Limits",
    "Split",
    "TensorInfo",
    "TensorType",
    "Window",
    "combine",
    "decode_value",
    "held_bytes",
    "read_header",
]
