"""The tensors that one block of a model computes, in order, as llama.cpp's graphs have them.

Which mixer and which feed-forward a block has follows from the tensors it holds; widths are read off their shapes. The
order of operations is that of `llm_graph_context` (src/llama-graph.cpp: build_qkv, build_attn, build_attn_mha,
build_ffn, build_moe_ffn), src/models/mamba-base.cpp, delta-net-base.cpp, rwkv7-base.cpp, lfm2.cpp and deepseek2.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from quants.footprint.model import Layer, Model
    from quants.footprint.tape import Tape
    from quants.gguf import TensorType

F32: Final = 4
_PARALLEL: Final = frozenset({"cohere2", "command-r"})  # attention and feed-forward read the same input
_NORMED_VALUES: Final = frozenset({"gemma3n", "gemma4"})  # architectures that normalize V too


@dataclass(slots=True)
class Masks:
    """The attention masks of a graph: inputs, on a GPU copied there when they are first read.

    Attributes:
        full: its node, once there is one; None also where no layer reads it.
        window: of sliding-window layers.
        full_bytes, window_bytes: sizes of those that are still to be copied.
    """

    full: int | None = None
    window: int | None = None
    full_bytes: int = 0
    window_bytes: int = 0

    def node(self, tape: Tape, *, windowed: bool) -> tuple[int, ...]:
        """The mask that a layer reads."""
        if windowed:
            if self.window is None and self.window_bytes:
                self.window = tape.op(self.window_bytes)
            return () if self.window is None else (self.window,)
        if self.full is None and self.full_bytes:
            self.full = tape.op(self.full_bytes)
        return () if self.full is None else (self.full,)


@dataclass(frozen=True, slots=True)
class Batch:
    """What a graph is built for.

    Attributes:
        tokens: computed at once.
        sequences: among them.
        cells: of the full cache in one stream.
        window_cells: of a sliding-window cache in one stream.
        flash: flash attention is on.
        rotate_k, rotate_v: a quantized cache is rotated first (`attn_rot_k` in src/llama-kv-cache.cpp).
        masks: of attention.
        streams: of the caches.
        kinds: tensor types of K and V.
    """

    tokens: int
    sequences: int
    cells: int
    window_cells: int
    flash: bool
    masks: Masks
    rotate_k: bool = False
    rotate_v: bool = False
    streams: int = 1
    kinds: tuple[TensorType, TensorType] | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """One layer with the shapes of its tensors by name ("attn_q.weight").

    Attributes:
        away: bytes of weights that lie in host memory while a GPU computes with them: each is copied to the GPU for as
            long as it is read (op offload).
        cache_away: the same holds for its K and V.
    """

    model: Model
    layer: Layer
    shapes: dict[str, tuple[int, ...]] = field(repr=False)
    away: dict[str, int] = field(default_factory=dict, repr=False)
    cache_away: bool = False

    def has(self, name: str) -> bool:
        """Whether the block has that weight."""
        return f"{name}.weight" in self.shapes

    def out(self, name: str) -> int:
        """The width of that weight's output: rows of the matrix, times experts or heads for a stack."""
        shape = self.shapes[f"{name}.weight"]
        return shape[1]

    def used_experts(self) -> int:
        """How many experts each token goes to."""
        return self.model.experts_used[self.layer.index]


def _copied(tape: Tape, block: Block, name: str) -> tuple[int, ...]:
    """The copy of a weight that lies elsewhere; nothing if it lies where it is used."""
    size = block.away.get(f"{name}.weight")
    return () if size is None else (tape.op(size),)


def _project(tape: Tape, block: Block, batch: Batch, name: str, *sources: int) -> int:
    """A matrix multiplication with that weight."""
    copy = _copied(tape, block, name)
    return tape.op(block.out(name) * batch.tokens * F32, *sources, *copy)


def run_block(tape: Tape, block: Block, batch: Batch, x: int) -> int:
    """Record a block that reads the residual stream `x`; the node of the stream behind it."""
    if block.has("time_mix_key"):
        return _rwkv(tape, block, batch, x)
    if block.model.architecture in _PARALLEL:
        normed = tape.op(block.model.width * batch.tokens * F32, x)
        # The graph is built from its end: attention is projected only when it is added.
        attended = _attend(tape, block, batch, normed)
        cur = tape.over(_dense(tape, block, batch, normed, "ffn_{}"), x)
        return tape.over(cur, _project(tape, block, batch, "attn_output", attended))
    mixed = run_mixer(tape, block, batch, x)
    if mixed is not None:
        x = tape.over(mixed, x)
    return run_feed_forward(tape, block, batch, x)


def run_mixer(tape: Tape, block: Block, batch: Batch, x: int) -> int | None:
    """Record what mixes tokens (attention, recurrence or both side by side); None for a feed-forward-only block."""
    recurrent = block.has("ssm_in") or block.has("ssm_conv1d") or block.has("ssm_conv1d_q")
    short = block.has("shortconv.conv")
    attends = block.has("attn_output") and not block.has("ssm_conv1d_q")
    if not (recurrent or short or attends):
        return None
    normed = tape.op(block.model.width * batch.tokens * F32, x) if block.has("attn_norm") else x
    attended = _attend(tape, block, batch, normed) if attends else None
    if recurrent or short:
        run = _recurrent if recurrent else _shortconv
        mixed = run(tape, block, batch, normed)
        return mixed if attended is None else tape.over(_project(tape, block, batch, "attn_output", attended), mixed)
    return None if attended is None else _project(tape, block, batch, "attn_output", attended)


def _attend(tape: Tape, block: Block, batch: Batch, normed: int) -> int:
    """Attention up to its output projection."""
    token = batch.tokens * F32
    layer = block.layer
    if block.has("attn_kv_a_mqa"):
        q, stored = _latent_queries(tape, block, batch, normed)
        tape.use(*stored)
        value = block.shapes["attn_output.weight"][0]
        latent = block.has("attn_k_b")
        heads = layer.heads
        lora = block.shapes["attn_kv_a_norm.weight"][0] if latent else 0
        out_width = heads * lora if latent else value
        cur = _mha(tape, block, batch, q, out_width)
        if latent:
            cur = tape.op(value * token, tape.op(value * token, cur))
        return cur
    gate: int | None = None
    keys: list[int] = []
    if block.has("attn_qkv"):
        qkv = _project(tape, block, batch, "attn_qkv", normed)
        width = block.shapes["attn_output.weight"][0]
        q = tape.op(width * token, qkv)
        k = tape.op(layer.k_width * token, qkv)
        tape.use(k)
        tape.use(qkv)
    else:
        q = _project(tape, block, batch, "attn_q", normed)
        width = block.shapes["attn_output.weight"][0]
        if block.out("attn_q") == 2 * width:
            # A gate is projected together with the query (qwen3next, qwen35).
            gate = tape.op(width * token, q)
        # Normalized or rotated through a reshaped view, whose room the allocator does not reuse.
        q = tape.op(width * token, q)
        if batch.rotate_k:
            q = tape.op(width * token, q)
        if block.has("attn_k") and layer.cached:
            # `build_attn` writes V first, its variant for windows K.
            order = ("attn_k", "attn_v") if block.model.window else ("attn_v", "attn_k")
            for name in order:
                made = _project(tape, block, batch, name if block.has(name) else "attn_k", normed)
                if name == "attn_k" or block.model.architecture in _NORMED_VALUES:
                    made = tape.op(tape.size(made), made)
                if batch.rotate_k if name == "attn_k" else batch.rotate_v:
                    made = tape.op(tape.size(made), made)
                keys.append(made)
        tape.use(*keys)
    cur = _mha(tape, block, batch, q, width)
    if batch.rotate_v:
        cur = tape.op(width * token, cur)
    return cur if gate is None else tape.over(cur, gate)


def _latent_queries(tape: Tape, block: Block, batch: Batch, normed: int) -> tuple[int, list[int]]:
    """Queries and keys of multi-head latent attention (deepseek2.cpp)."""
    token = batch.tokens * F32
    heads = block.layer.heads
    if block.has("attn_q"):
        q = _project(tape, block, batch, "attn_q", normed)
    else:
        low = _project(tape, block, batch, "attn_q_a", normed)
        q = _project(tape, block, batch, "attn_q_b", low)
    compressed = _project(tape, block, batch, "attn_kv_a_mqa", normed)
    lora = block.shapes["attn_kv_a_norm.weight"][0]
    rope = block.out("attn_kv_a_mqa") - lora
    if block.has("attn_k_b"):
        absorbed = tape.op(heads * lora * token, q)
        rotated = tape.op(heads * rope * token, q)
        query = tape.op(heads * (lora + rope) * token, absorbed, rotated)
        latent = tape.op(lora * token, compressed)
        pe = tape.op(rope * token, compressed)
        return query, [tape.op((lora + rope) * token, latent, pe)]
    query = tape.over(q)
    latent = tape.op(lora * token, compressed)
    full = _project(tape, block, batch, "attn_kv_b", latent)
    values = tape.op(block.shapes["attn_output.weight"][0] * token, full)
    pe = tape.op(rope * heads * token, compressed)
    keys = tape.op(tape.size(query), full, pe)
    return query, [keys, values]


def _mha(tape: Tape, block: Block, batch: Batch, q: int, out_width: int) -> int:
    """Attention proper (`build_attn_mha`)."""
    token = batch.tokens * F32
    layer = block.layer
    inputs: tuple[int, ...] = ()
    if block.cache_away and batch.kinds is not None:
        cells = (batch.window_cells if layer.windowed else batch.cells) * batch.streams
        widths = zip(batch.kinds, (layer.k_width, layer.v_width), strict=True)
        inputs = tuple(tape.op(kind.row_bytes(width) * cells) for kind, width in widths if width)
    inputs += batch.masks.node(tape, windowed=layer.windowed)
    if batch.flash:
        return tape.op(out_width * token, q, *inputs)
    cells = batch.window_cells if layer.windowed else batch.cells
    scores = tape.over(tape.op(cells * layer.heads * token, q), *inputs)
    cur = tape.op(out_width * token, scores)
    return tape.op(out_width * token, cur)


def run_feed_forward(tape: Tape, block: Block, batch: Batch, x: int) -> int:
    """Record the feed-forward and its residual; `x` itself for a block without one."""
    moe = block.has("ffn_down_exps")
    if not moe and not block.has("ffn_down"):
        return x
    normed = tape.op(block.model.width * batch.tokens * F32, x)
    out: list[int] = []
    if moe:
        out.append(_experts(tape, block, batch, normed))
    prefixes = [prefix for prefix in ("ffn_{}", "ffn_{}_shexp") if block.has(prefix.format("down"))]
    out += [_dense(tape, block, batch, normed, prefix) for prefix in prefixes]
    return tape.over(tape.over(*out), x)


def _dense(tape: Tape, block: Block, batch: Batch, normed: int, prefix: str) -> int:
    token = batch.tokens * F32
    names = {part: prefix.format(part) for part in ("up", "gate", "down")}
    down = block.shapes[f"{names['down']}.weight"]
    up = _project(tape, block, batch, names["up"], normed)
    if block.has(names["gate"]):
        gate = _project(tape, block, batch, names["gate"], normed)
        hidden = tape.op(down[0] * token, gate, up)
    elif block.out(names["up"]) == 2 * down[0]:
        hidden = tape.op(down[0] * token, up)
    else:
        hidden = tape.over(up)
    return _project(tape, block, batch, names["down"], hidden)


def _experts(tape: Tape, block: Block, batch: Batch, normed: int) -> int:
    """`build_moe_ffn`."""
    token = batch.tokens * F32
    used = block.used_experts()
    down = block.shapes["ffn_down_exps.weight"]
    count = down[2]
    scores = tape.op(count * token, normed)
    probabilities = tape.over(scores)
    order = tape.op(count * token, probabilities)
    weights = tape.op(used * token, probabilities, order)
    if block.has("ffn_gate_up_exps"):
        both = tape.op(2 * down[0] * used * token, normed, order, *_copied(tape, block, "ffn_gate_up_exps"))
        hidden = tape.op(down[0] * used * token, both)
    else:
        up = tape.op(down[0] * used * token, normed, order, *_copied(tape, block, "ffn_up_exps"))
        if block.has("ffn_gate_exps"):
            gate = tape.op(down[0] * used * token, normed, order, *_copied(tape, block, "ffn_gate_exps"))
            hidden = tape.op(down[0] * used * token, gate, up)
        else:
            hidden = tape.over(up)
    copy = _copied(tape, block, "ffn_down_exps")
    each = tape.over(tape.op(down[1] * used * token, hidden, order, *copy), weights)
    # The first sum reads two experts' slices; the others read one more each, so all stay until the end.
    total = tape.op(down[1] * token, each)
    total = tape.over(total)
    tape.use(each)
    return tape.over(total)


def _recurrent(tape: Tape, block: Block, batch: Batch, normed: int) -> int:
    """Mamba, Mamba-2, gated delta net and Kimi delta attention."""
    token = batch.tokens * F32
    model = block.model
    state = model.state_width * batch.sequences * F32
    inner = model.inner_width
    if block.has("ssm_conv1d_q"):
        return _kimi_delta(tape, block, batch, normed)
    if block.has("attn_qkv") or block.has("attn_gate") or block.has("ssm_ba"):
        return _delta_net(tape, block, batch, normed)
    history = tape.op(model.conv_width * batch.sequences * F32)
    projected = _project(tape, block, batch, "ssm_in", normed)
    channels = block.shapes["ssm_conv1d.weight"][1]
    joined = tape.op(channels * (token + 3 * batch.sequences * F32), history, projected)
    conv = tape.over(tape.op(channels * token, joined))
    if block.has("ssm_x"):
        mixed = _project(tape, block, batch, "ssm_x", conv)
        step = tape.op(inner * token, mixed)
        scan = tape.op(inner * token + state, conv, step, mixed)
    else:
        step = tape.op(block.shapes["ssm_dt.bias"][0] * token, projected)
        scan = tape.op(inner * token + state, conv, step)
    z = tape.op(inner * token, projected)
    y = tape.over(tape.op(inner * token, conv), scan)
    gated = tape.op(inner * token, z, y)
    if block.has("ssm_norm"):
        gated = tape.op(inner * token, gated)
    return _project(tape, block, batch, "ssm_out", gated)


def _delta_net(tape: Tape, block: Block, batch: Batch, normed: int) -> int:
    token = batch.tokens * F32
    model = block.model
    inner = model.inner_width
    state = model.state_width * batch.sequences * F32
    channels = block.shapes["ssm_conv1d.weight"][1]
    mixed = tape.op(channels * token, normed)
    history = tape.op(model.conv_width * batch.sequences * F32)
    joined = tape.op(channels * (token + 3 * batch.sequences * F32), history, mixed)
    conv = tape.over(tape.op(channels * token, joined))
    keys = (channels - inner) // 2
    q = tape.op(keys * token, conv)
    k = tape.op(keys * token, conv)
    before = tape.op(state)
    scan = tape.op(inner * token + state, q, k, conv, before)
    out = tape.op(inner * token, scan)
    z = tape.over(tape.op(inner * token, normed))
    gated = tape.over(out, z)
    return _project(tape, block, batch, "ssm_out", gated)


def _kimi_delta(tape: Tape, block: Block, batch: Batch, normed: int) -> int:
    token = batch.tokens * F32
    model = block.model
    inner = block.shapes["ssm_conv1d_q.weight"][1] if len(block.shapes["ssm_conv1d_q.weight"]) > 1 else 0
    inner = max(inner, block.out("attn_q"))
    state = model.state_width * batch.sequences * F32
    parts = []
    for name in ("attn_q", "attn_k", "attn_v"):
        projected = tape.op(block.out(name) * token, normed)
        joined = tape.op(inner * (token + 3 * batch.sequences * F32), projected)
        parts.append(tape.over(tape.op(inner * token, joined)))
    gate = tape.op(inner * token, normed)
    before = tape.op(state)
    scan = tape.op(inner * token + state, *parts, gate, before)
    out = tape.op(inner * token, scan)
    z = tape.op(inner * token, normed)
    return _project(tape, block, batch, "attn_output", tape.over(out, z))


def _shortconv(tape: Tape, block: Block, batch: Batch, normed: int) -> int:
    token = batch.tokens * F32
    width = block.model.width
    projected = tape.op(3 * width * token, normed)
    gated = tape.op(width * token, projected)
    history = tape.op(block.model.conv_width * batch.sequences * F32)
    joined = tape.op(width * (token + 2 * batch.sequences * F32), history, gated)
    conv = tape.op(width * token, joined)
    mixed = tape.over(conv, projected)
    return tape.op(width * token, mixed)


def _rwkv(tape: Tape, block: Block, batch: Batch, x: int) -> int:
    """A whole block of RWKV-7: time mix, channel mix and their residuals (rwkv7-base.cpp)."""
    token = batch.tokens * F32
    width = block.model.width * token
    state = block.model.state_width * batch.sequences * F32
    history = tape.op(block.model.conv_width * batch.sequences * F32)
    before = tape.op(state)
    normed = tape.op(width, x)
    shifted = tape.over(tape.op(width, history, normed), normed)
    mixes = tape.over(tape.op(6 * width, shifted), normed)
    r = tape.op(width, mixes)
    decay = tape.op(width, mixes)
    key = tape.op(width, mixes)
    rate = tape.op(width, mixes)
    scaled = tape.op(width, key)
    key2 = tape.over(tape.over(tape.op(width, rate, scaled), scaled), key)
    value = tape.op(width, mixes)
    unit = tape.op(width, tape.over(key))
    negative = tape.op(width, unit)
    removal = tape.over(unit, rate)
    out = tape.op(width + state, r, decay, key2, value, negative, removal, before)
    y = tape.over(tape.op(width, tape.op(width, out)))
    bonus = tape.op(token, tape.over(tape.op(width, key2, r)))
    y = tape.over(y, tape.op(width, value, bonus))
    y = tape.over(y, tape.op(width, mixes))
    x = tape.op(width, tape.op(width, y), x)
    inner = tape.op(width, x)
    tape.use(normed, inner)
    step = tape.over(tape.op(width, tape.op(width, history, inner), inner), inner)
    hidden = tape.over(_project(tape, block, batch, "channel_mix_key", step))
    return tape.over(tape.op(width, hidden), x)
