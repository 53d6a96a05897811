"""The tables of the GGUF format: value types, tensor types with their block sizes, and model file types."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class TensorType:
    """How a tensor type is stored.

    Attributes:
        type_id: the id in the file (`enum ggml_type` in ggml.h).
        name: as ggml prints it, in capitals.
        block_size: elements per block; a row must be a whole number of blocks.
        block_bytes: bytes per block.
    """

    type_id: int
    name: str
    block_size: int
    block_bytes: int

    def row_bytes(self, elements: int) -> int:
        """The bytes of a row of `elements`, rounded down to whole blocks as `ggml_row_size` does."""
        return elements // self.block_size * self.block_bytes

    @property
    def bits_per_weight(self) -> float:
        """The mean storage per element, in bits."""
        return self.block_bytes * 8 / self.block_size


# Ids, block sizes and block bytes of `ggml_type` (ggml.h, ggml-common.h). Ids 4, 5, 31 to 33 and 36 to 38 were in files
# once and were withdrawn (see REMOVED_TENSOR_TYPES). A test compares this table with the `gguf` package's.
TENSOR_TYPES: Final[Mapping[int, TensorType]] = MappingProxyType(
    {
        type_id: TensorType(type_id, name, block_size, block_bytes)
        for type_id, name, block_size, block_bytes in (
            (0, "F32", 1, 4),
            (1, "F16", 1, 2),
            (2, "Q4_0", 32, 18),
            (3, "Q4_1", 32, 20),
            (6, "Q5_0", 32, 22),
            (7, "Q5_1", 32, 24),
            (8, "Q8_0", 32, 34),
            (9, "Q8_1", 32, 40),
            (10, "Q2_K", 256, 84),
            (11, "Q3_K", 256, 110),
            (12, "Q4_K", 256, 144),
            (13, "Q5_K", 256, 176),
            (14, "Q6_K", 256, 210),
            (15, "Q8_K", 256, 292),
            (16, "IQ2_XXS", 256, 66),
            (17, "IQ2_XS", 256, 74),
            (18, "IQ3_XXS", 256, 98),
            (19, "IQ1_S", 256, 50),
            (20, "IQ4_NL", 32, 18),
            (21, "IQ3_S", 256, 110),
            (22, "IQ2_S", 256, 82),
            (23, "IQ4_XS", 256, 136),
            (24, "I8", 1, 1),
            (25, "I16", 1, 2),
            (26, "I32", 1, 4),
            (27, "I64", 1, 8),
            (28, "F64", 1, 8),
            (29, "IQ1_M", 256, 56),
            (30, "BF16", 1, 2),
            (34, "TQ1_0", 256, 54),
            (35, "TQ2_0", 256, 66),
            (39, "MXFP4", 32, 17),
            (40, "NVFP4", 64, 36),
            (41, "Q1_0", 128, 18),
        )
    }
)

# Types that old files hold and that llama.cpp no longer loads.
REMOVED_TENSOR_TYPES: Final[Mapping[int, str]] = MappingProxyType(
    {
        4: "Q4_2",
        5: "Q4_3",
        31: "Q4_0_4_4",
        32: "Q4_0_4_8",
        33: "Q4_0_8_8",
        36: "IQ4_NL_4_4",
        37: "IQ4_NL_4_8",
        38: "IQ4_NL_8_8",
    }
)

# `general.file_type`: `enum llama_ftype` in llama.h, without the prefix MOSTLY_.
FILE_TYPES: Final[Mapping[int, str]] = MappingProxyType(
    {
        0: "F32",
        1: "F16",
        2: "Q4_0",
        3: "Q4_1",
        7: "Q8_0",
        8: "Q5_0",
        9: "Q5_1",
        10: "Q2_K",
        11: "Q3_K_S",
        12: "Q3_K_M",
        13: "Q3_K_L",
        14: "Q4_K_S",
        15: "Q4_K_M",
        16: "Q5_K_S",
        17: "Q5_K_M",
        18: "Q6_K",
        19: "IQ2_XXS",
        20: "IQ2_XS",
        21: "Q2_K_S",
        22: "IQ3_XS",
        23: "IQ3_XXS",
        24: "IQ1_S",
        25: "IQ4_NL",
        26: "IQ3_S",
        27: "IQ3_M",
        28: "IQ2_S",
        29: "IQ2_M",
        30: "IQ4_XS",
        31: "IQ1_M",
        32: "BF16",
        36: "TQ1_0",
        37: "TQ2_0",
        38: "MXFP4_MOE",
        39: "NVFP4",
        40: "Q1_0",
    }
)

# Metadata value types (`enum gguf_type` in gguf.h): struct code and size of the scalars; strings and arrays are apart.
SCALAR_TYPES: Final[Mapping[int, tuple[str, str, int]]] = MappingProxyType(
    {
        0: ("uint8", "B", 1),
        1: ("int8", "b", 1),
        2: ("uint16", "H", 2),
        3: ("int16", "h", 2),
        4: ("uint32", "I", 4),
        5: ("int32", "i", 4),
        6: ("float32", "f", 4),
        7: ("bool", "B", 1),
        10: ("uint64", "Q", 8),
        11: ("int64", "q", 8),
        12: ("float64", "d", 8),
    }
)
BOOL: Final = 7
STRING: Final = 8
ARRAY: Final = 9
