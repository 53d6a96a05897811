"""What a GGUF header says: metadata and tensor table, with the accessors that estimators and listings need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from quants.errors import GGUFError
from quants.gguf.types import FILE_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_ALIGNMENT: Final = 32  # GGUF_DEFAULT_ALIGNMENT in gguf.h


@dataclass(frozen=True, slots=True)
class Deferred:
    """A metadata value too large to be worth decoding unless it is asked for by key.

    Attributes:
        type_name: "string", or the type of an array's elements ("string", "float32", "array", ...).
        length: elements of the array, or bytes of the string. Exact: a deferred value is never a shortened one.
        offset: where its data begins in the file (after the length), in bytes.
        size_bytes: the length of that data.
    """

    type_name: str
    length: int
    offset: int
    size_bytes: int

    def __len__(self) -> int:
        return self.length


Value: TypeAlias = "bool | int | float | str | tuple[Value, ...] | Deferred"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One row of the tensor table.

    Attributes:
        name: as the engine looks it up, e.g. "blk.0.attn_q.weight".
        shape: elements per dimension in file order: `shape[0]` is the row length (ggml's `ne[0]`).
        type_id: the id of its tensor type.
        type_name: e.g. "Q4_K"; "type-57" where the id is newer than this program.
        offset: where its data begins, in bytes from the data section of its file.
        size_bytes: of its data. For an unknown type the room up to the next tensor, padding included.
        shard: which file of a split set holds it, from 0.
    """

    name: str
    shape: tuple[int, ...]
    type_id: int
    type_name: str
    offset: int
    size_bytes: int
    shard: int = 0

    @property
    def elements(self) -> int:
        """How many numbers the tensor holds."""
        product = 1
        for extent in self.shape:
            product *= extent
        return product


@dataclass(frozen=True, slots=True)
class Split:
    """A file's place in a split set: `split.no` (from 0), `split.count` and `split.tensors.count` (of the set)."""

    index: int
    count: int
    tensors: int | None


@dataclass(frozen=True, slots=True)
class Header:
    """The header of one GGUF file, or of a whole split set (see `quants.gguf.combine`).

    Attributes:
        version: of the format, 2 or 3.
        byte_order: of the file.
        metadata: every key. Large arrays and strings are `Deferred` unless they were asked for.
        tensors: the tensor table in file order.
        alignment: of tensor data, in bytes.
        header_bytes: magic, metadata and tensor table, without the padding behind it.
        data_offset: where tensor data begins, in bytes from the start of the file.
        file_bytes: the least size a complete file has: the end of the last tensor. For a split set the sum.
        unknown_types: ids of tensor types that this program does not know, in ascending order.
    """

    version: int
    byte_order: Literal["little", "big"]
    metadata: Mapping[str, Value]
    tensors: tuple[TensorInfo, ...]
    alignment: int
    header_bytes: int
    data_offset: int
    file_bytes: int
    unknown_types: tuple[int, ...] = ()

    @property
    def architecture(self) -> str | None:
        """`general.architecture`, e.g. "qwen3moe". Only the first shard of a split set has it."""
        return self.text("general.architecture")

    @property
    def name(self) -> str | None:
        """`general.name`, the model's own name."""
        return self.text("general.name")

    @property
    def file_type(self) -> str | None:
        """The label of `general.file_type`, e.g. "Q4_K_M"; None where it is missing or not known."""
        value = self.integer("general.file_type")
        return None if value is None else FILE_TYPES.get(value)

    @property
    def split(self) -> Split | None:
        """The file's place in a split set, None for a file that stands alone."""
        count = self.integer("split.count")
        if count is None or count <= 1:
            return None
        return Split(self.integer("split.no") or 0, count, self.integer("split.tensors.count"))

    @property
    def weight_bytes(self) -> int:
        """The data of all tensors, in bytes, without padding."""
        return sum(tensor.size_bytes for tensor in self.tensors)

    @property
    def parameters(self) -> int:
        """The number of weights: all elements of all tensors."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float | None:
        """Mean bits of storage per weight; None where there are no weights."""
        parameters = self.parameters
        return self.weight_bytes * 8 / parameters if parameters else None

    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`, with "{arch}" in it standing for the architecture; `default` where it is missing."""
        return self.metadata.get(self._expand(key), default)

    def integer(self, key: str, default: int | None = None) -> int | None:
        """The whole number at `key` (a float or bool with a whole value counts).

        Raises:
            GGUFError: the value is something else.
        """
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        raise GGUFError(f"{self._expand(key)} is {_describe(value)} where a whole number belongs")

    def number(self, key: str, default: float | None = None) -> float | None:
        """The number at `key` as a float.

        Raises:
            GGUFError: the value is something else.
        """
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, int | float):
            return float(value)
        raise GGUFError(f"{self._expand(key)} is {_describe(value)} where a number belongs")

    def text(self, key: str, default: str | None = None) -> str | None:
        """The string at `key`.

        Raises:
            GGUFError: the value is something else.
        """
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, str):
            return value
        raise GGUFError(f"{self._expand(key)} is {_describe(value)} where a text belongs")

    def length(self, key: str) -> int | None:
        """The number of elements of the array at `key`, decoded or deferred; None where it is missing.

        Raises:
            GGUFError: the value is no array.
        """
        value = self.get(key)
        if value is None:
            return None
        if isinstance(value, tuple | Deferred):
            return len(value)
        raise GGUFError(f"{self._expand(key)} is {_describe(value)} where an array belongs")

    def per_layer(self, key: str, layers: int) -> tuple[int | float | bool, ...] | None:
        """The value of `key` for each of `layers` layers: a scalar is repeated, an array must be at least that long.

        An array longer than `layers` is returned whole: models with extra (nextn) layers list them too.

        Raises:
            GGUFError: too short, too long to be one value a layer, or no numbers.
        """
        value = self.get(key)
        if value is None:
            return None
        if isinstance(value, bool | int | float):
            return (value,) * layers
        if not isinstance(value, tuple) or not all(isinstance(item, bool | int | float) for item in value):
            raise GGUFError(f"{self._expand(key)} is {_describe(value)} where a number for each layer belongs")
        if len(value) < layers:
            raise GGUFError(f"{self._expand(key)} has {len(value)} values for {layers} layers")
        return tuple(item for item in value if isinstance(item, bool | int | float))

    def require_data(self, size_bytes: int, where: str) -> None:
        """Check that a file of `size_bytes` holds all tensor data that the header announces.

        Raises:
            GGUFError: the file is cut off; says how many bytes are missing.
        """
        if size_bytes < self.file_bytes:
            raise GGUFError(
                f"cut off: the header announces {self.file_bytes:,} bytes, the file has {size_bytes:,} "
                f"({self.file_bytes - size_bytes:,} are missing)",
                "Download or copy it again",
                None,
                where,
            )

    def _expand(self, key: str) -> str:
        """`key` with "{arch}" replaced; the architecture is read directly, as `text` would come back here."""
        if "{arch}" not in key:
            return key
        return key.replace("{arch}", str(self.metadata.get("general.architecture", "")))


def _describe(value: Value) -> str:
    """A value in a few words, for error texts."""
    if isinstance(value, Deferred):
        return f"a {value.type_name} value of length {value.length:,}"
    if isinstance(value, tuple):
        return f"an array of {len(value)} values"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
