"""A model's hyper-parameters as llama.cpp derives them from the header: one record for each layer.

Follows `llama_model_base::load_hparams` (src/llama-model.cpp) and the accessors in src/llama-hparams.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from quants.errors import GGUFError
from quants.footprint.architectures import ARCHITECTURES, Architecture, Recurrence

if TYPE_CHECKING:
    from quants.gguf import Header

_LARGEST: Final = 1 << 31  # of any hyper-parameter: they are 32-bit numbers in the engine
MAX_LAYERS: Final = 512  # LLAMA_MAX_LAYERS in src/llama-hparams.h


class UnknownArchitectureError(Exception):
    """The estimator has no rules for this file; the text says why."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One block of the model.

    Attributes:
        index: from 0.
        heads: attention heads; 0 where it has none.
        kv_heads: heads of K and V.
        k_width: elements of K for each token: head size times `kv_heads`.
        v_width: elements of V for each token; 0 where only K is cached.
        head_size: elements of a query head.
        windowed: attends to a sliding window only.
        cached: has a KV cache of its own.
        recurrent: has recurrent state.
        nextn: belongs to multi-token prediction: neither cached nor loaded by default.
        ff_width: width of the dense feed-forward as the metadata has it; 0 where it has none.
    """

    index: int
    heads: int
    kv_heads: int
    k_width: int
    v_width: int
    head_size: int
    windowed: bool
    cached: bool
    recurrent: bool
    nextn: bool
    ff_width: int


@dataclass(frozen=True, slots=True)
class Model:
    """What the estimate needs to know of a model.

    Attributes:
        architecture: its name.
        layers: every block, those of multi-token prediction included.
        width: of the residual stream, in elements.
        input_width: elements of an embedding handed in: wider than `width` where images bring more (deepstack).
        vocab: tokens.
        window: tokens of the sliding window; None where no layer has one.
        latent: K only is cached (multi-head latent attention).
        v_width_max: the widest V of any layer, to which all are padded without flash attention.
        conv_width: elements of the short history (convolution, token shift) of a recurrent layer.
        state_width: elements of the state of a recurrent layer.
        inner_width: elements of a recurrent layer's inner stream (`ssm.inner_size`).
        experts_used: experts that each token goes to, for each layer.
        trained_context: tokens, None if the header does not say.
    """

    architecture: str
    layers: tuple[Layer, ...]
    width: int
    input_width: int
    vocab: int
    window: int | None
    latent: bool
    v_width_max: int
    conv_width: int
    state_width: int
    inner_width: int
    experts_used: tuple[int, ...]
    trained_context: int | None


def read_model(header: Header) -> Model:
    """The hyper-parameters of the model in `header` (of the whole split set).

    Raises:
        UnknownArchitectureError: no rules for it.
        GGUFError: a value that the rules need is missing or makes no sense.
    """
    name = header.architecture
    rules = ARCHITECTURES.get(name or "")
    if name is None or rules is None:
        what = "the header names no architecture" if name is None else f"no rules for the architecture {name!r}"
        raise UnknownArchitectureError(what)
    if header.unknown_types:
        ids = ", ".join(map(str, header.unknown_types))
        raise UnknownArchitectureError(f"tensor types that this program does not know: {ids}")
    return _Reader(header, name, rules).model()


class _Reader:
    """Reads one header by the rules of its architecture."""

    def __init__(self, header: Header, name: str, rules: Architecture) -> None:
        self.header = header
        self.name = name
        self.rules = rules
        self.count = self._need("block_count")
        if not 0 < self.count <= MAX_LAYERS:
            raise GGUFError(f"{name}.block_count is {self.count}; 1 to {MAX_LAYERS} belong there")
        self.nextn = self._number("nextn_predict_layers") or 0
        self.trunk = self.count - self.nextn
        if not 0 <= self.nextn < self.count:
            raise GGUFError(f"{name}.nextn_predict_layers is {self.nextn} of {self.count} layers")
        self.width = self._need("embedding_length")
        if not self.width:
            raise GGUFError(f"{name}.embedding_length is 0")

    def _number(self, key: str) -> int | None:
        value = self.header.integer(f"{self.name}.{key}")
        if value is not None and not 0 <= value <= _LARGEST:
            raise GGUFError(f"{self.name}.{key} is {value}, which no model has")
        return value

    def _need(self, key: str) -> int:
        value = self._number(key)
        if value is None:
            raise GGUFError(f"{self.name}.{key} is missing")
        return value

    def _each(self, key: str) -> tuple[int, ...] | None:
        values = self.header.per_layer(f"{self.name}.{key}", self.count)
        if values is None:
            return None
        if not all(0 <= value <= _LARGEST for value in values):  # False for NaN too
            raise GGUFError(f"{self.name}.{key} holds a value that no model has")
        return tuple(int(value) for value in values)

    def model(self) -> Model:
        heads = self._each("attention.head_count") or (0,) * self.count
        kv_heads = self._each("attention.head_count_kv") or heads
        ff = self._each("feed_forward_length") or (0,) * self.count
        # The head size follows from the first layer's heads (hparams.n_head() is n_head(0)).
        default = self.width // heads[0] if heads[0] else 0
        k_full = v_full = 0
        if heads[0]:
            k_full = self._number("attention.key_length") or default
            v_full = self._number("attention.value_length") or default
        elif self.rules.recurrence is not Recurrence.ALL and any(heads):
            raise UnknownArchitectureError("the first layer has no attention heads, so no head size follows")
        k_window = self._number("attention.key_length_swa") or k_full
        v_window = self._number("attention.value_length_swa") or v_full
        window, windowed = self._windows(kv_heads)
        recurrent = self._recurrent(kv_heads, ff)
        latent = self.rules.latent and bool(
            self._number("attention.key_length_mla") and self._number("attention.value_length_mla")
        )
        layers = []
        for i in range(self.count):
            k_head, v_head = (k_window, v_window) if windowed[i] else (k_full, v_full)
            layers.append(
                Layer(
                    index=i,
                    heads=heads[i],
                    kv_heads=kv_heads[i],
                    k_width=k_head * kv_heads[i],
                    v_width=0 if latent else v_head * kv_heads[i],
                    head_size=k_head,
                    windowed=windowed[i],
                    cached=self._cached(i, recurrent[i], ff[i]),
                    recurrent=recurrent[i],
                    nextn=i >= self.trunk,
                    ff_width=ff[i],
                )
            )
        conv, state = self._state_widths(heads[0])
        return Model(
            architecture=self.name,
            layers=tuple(layers),
            width=self.width,
            input_width=self.width * (1 + (self._number("n_deepstack_layers") or 0)),
            vocab=self._vocab(),
            window=window,
            latent=latent,
            v_width_max=max(layer.v_width for layer in layers),
            conv_width=conv,
            state_width=state,
            inner_width=self._number("ssm.inner_size") or 0,
            experts_used=self._each("expert_used_count") or (0,) * self.count,
            trained_context=self._number("context_length"),
        )

    def _windows(self, kv_heads: tuple[int, ...]) -> tuple[int | None, tuple[bool, ...]]:
        """The window in tokens and the layers that have it (`load_swa_pattern`, `set_swa_pattern`)."""
        none = (False,) * self.count
        rule = self.rules.window
        if rule is None or (rule.only_layers is not None and rule.only_layers != self.trunk):
            return None, none
        said = self._number("attention.sliding_window")
        tokens = rule.default if said is None else said
        if not tokens and (said is None or rule.default is None or rule.off_at_zero):
            return None, none
        tokens = rule.fixed or tokens or 0
        if rule.period == 0:
            return tokens, tuple(heads > 0 for heads in kv_heads)
        pattern = self.header.get(f"{self.name}.attention.sliding_window_pattern")
        if isinstance(pattern, tuple):
            if len(pattern) < self.count:
                raise GGUFError(
                    f"{self.name}.attention.sliding_window_pattern has {len(pattern)} values for {self.count} layers"
                )
            return tokens, tuple(bool(value) for value in pattern[: self.count])
        if rule.period is None:
            raise GGUFError(f"{self.name}.attention.sliding_window_pattern is missing")
        period = rule.period if pattern is None else self._need("attention.sliding_window_pattern")
        return tokens, tuple(_in_window(i, period, rule.dense_first) and i < self.trunk for i in range(self.count))

    def _recurrent(self, kv_heads: tuple[int, ...], ff: tuple[int, ...]) -> tuple[bool, ...]:
        rule = self.rules.recurrence
        if rule is Recurrence.NEVER:
            return (False,) * self.count
        if rule is Recurrence.INTERVAL:
            listed = self._each("attention.recurrent_layers")
            if listed is not None:
                return tuple(bool(each) and i < self.trunk for i, each in enumerate(listed[: self.count]))
            interval = self._number("full_attention_interval") or 4
            return tuple(i < self.trunk and (i + 1) % interval != 0 for i in range(self.count))
        if rule is Recurrence.NO_KV_HEADS:
            return tuple(i < self.trunk and kv_heads[i] == 0 for i in range(self.count))
        if rule is Recurrence.NO_KV_HEADS_NO_FF:
            return tuple(i < self.trunk and kv_heads[i] == 0 and ff[i] == 0 for i in range(self.count))
        return tuple(i < self.trunk for i in range(self.count))

    def _cached(self, i: int, recurrent: bool, ff: int) -> bool:
        """Whether layer `i` has K and V of its own (`has_kv` and the filters in `create_memory`)."""
        rules = self.rules
        if rules.recurrence is Recurrence.ALL or i >= self.trunk:
            return False
        if rules.recurrence is Recurrence.BESIDE:
            return True
        if rules.recurrence is Recurrence.NO_KV_HEADS_NO_FF:
            return not recurrent and ff == 0
        if rules.shared_layers:
            return i < self.count - (self._number("attention.shared_kv_layers") or 0)
        if rules.cached_layers is not None:
            return i < rules.cached_layers
        return not recurrent

    def _state_widths(self, heads: int) -> tuple[int, int]:
        """Elements of history and of state for each sequence (`n_embd_r`, `n_embd_s`)."""
        if self.rules.recurrence is Recurrence.NEVER:
            return 0, 0
        wkv = self._number("wkv.head_size")
        if wkv:
            shift = self._number("token_shift_count")
            return (2 if shift is None else shift) * self.width, self.width * wkv
        conv = self._number("ssm.conv_kernel") or 0
        inner = self._number("ssm.inner_size") or 0
        state = self._number("ssm.state_size") or 0
        short = self._number("shortconv.l_cache")
        if short:
            return self.width * (short - 1), state * inner
        kda = self._number("kda.head_dim")
        if kda:
            return 3 * (conv - 1 if conv else 3) * heads * kda, kda * kda * heads
        groups = self._number("ssm.group_count") or 0
        return (conv - 1 if conv else 0) * (inner + 2 * groups * state), state * inner

    def _vocab(self) -> int:
        for name in ("token_embd.weight", "output.weight"):
            for tensor in self.header.tensors:
                if tensor.name == name and len(tensor.shape) == 2:
                    return tensor.shape[1]
        tokens = self.header.length("tokenizer.ggml.tokens")
        if tokens is None:
            raise GGUFError("neither token_embd.weight nor tokenizer.ggml.tokens: the vocabulary's size is unknown")
        return tokens


def _in_window(i: int, period: int, dense_first: bool) -> bool:
    if period == 0:
        return True
    return i % period != 0 if dense_first else i % period < period - 1
